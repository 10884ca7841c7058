"""How a program starts and ends: standard streams, signals, and every error as one message.

This module imports nothing that takes time before `run` has looked after Ctrl-C. That is why it
takes the names of `signal` from the built-in module behind it.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from _signal import (  # type: ignore[import-not-found]
    SIG_DFL,
    SIGHUP,
    SIGINT,
    SIGPIPE,
    SIGTERM,
    default_int_handler,
    getsignal,
    signal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TextIO

    from _typeshed import ReadableBuffer

    from scpatch.errors import ScpatchError


class Stopped(SystemExit):
    """A signal told the program to end. An exception, so that what is unfinished is removed."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class ReportError(Exception):
    """A standard stream that cannot be written. No OSError, which libraries treat in their way."""

    def __init__(self, stream: int, error: OSError) -> None:
        super().__init__(error.strerror)
        self.stream = {1: "stdout", 2: "stderr"}[stream]

    def message(self) -> ScpatchError:
        from scpatch.errors import ScpatchError

        return ScpatchError("SCP136", f"cannot write the report: {self}", file=self.stream)


def run(program: Callable[[], int]) -> NoReturn:
    """Runs a program and ends the process with the exit code that it returns, or as the signal
    that stopped it does. Nothing but an error of scpatch itself shows a traceback."""
    # Until there is something to clean up, and after that, Ctrl-C ends the process at once.
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)
    # Tables of tens of thousands of rows live until the end: looking at them again and again for
    # cycles costs a tenth of a run and finds none.
    gc.set_threshold(100_000)
    _prepare_streams()
    caught = [one for one in (SIGINT, SIGTERM, SIGHUP) if getsignal(one) is SIG_DFL]
    sys.unraisablehook = _unraisable
    try:
        for number in caught:
            signal(number, _stop)
        status = _status(program)
        for number in caught:
            signal(number, SIG_DFL)
        _flush()
    except Stopped as stopped:
        _die(stopped.number)
    # At its end the interpreter looks for cycles in all that was ever imported: a sixth of the
    # time that a small object takes. The end of the process frees it as well. LIEF's binding
    # takes what is not found for leaks, and tells them on stderr.
    if "lief" not in sys.modules:
        gc.freeze()
    sys.exit(status)


def _prepare_streams() -> None:
    """Makes stdout and stderr such that errors of writing are `ReportError`, and that names in an
    object that are no text do not stop the report. Opens standard streams that are closed, so that
    no file gets their numbers, and then whatever is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _stream(1, sys.stdout)
    sys.stderr = _stream(2, sys.stderr)


def _stream(number: int, old: TextIO | None) -> TextIO:
    """A stream as Python opens it: by lines for a terminal, with PYTHONUNBUFFERED, and stderr."""
    by_lines = isinstance(old, io.TextIOWrapper) and (old.line_buffering or old.write_through)
    return io.TextIOWrapper(
        io.BufferedWriter(_Report(number, "w", closefd=False)),
        encoding=old.encoding if old else None,
        errors="backslashreplace",
        line_buffering=by_lines,
    )


class _Report(io.FileIO):
    """A standard stream."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            # The reader has gone: the end of any program that does not ask to be told.
            raise Stopped(SIGPIPE) from None
        except OSError as error:
            raise ReportError(self.fileno(), error) from error


def _stop(number: int, _frame: object) -> None:
    raise Stopped(number)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops an exception in a finalizer or a callback; a signal must not be lost there."""
    if isinstance(unraisable.exc_value, Stopped):
        _die(unraisable.exc_value.number)
    sys.__unraisablehook__(unraisable)


def _die(number: int) -> NoReturn:
    """Ends the process by the signal, so that a shell or make knows that it was stopped."""
    signal(number, SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the signal is blocked


def _status(program: Callable[[], int]) -> int:
    """The exit code of the program, with every error as one message on stderr."""
    try:
        status = program()
        sys.stdout.flush()
    except Exception as error:
        from scpatch.report.errors import as_message, print_error

        message = error.message() if isinstance(error, ReportError) else as_message(error)
        with contextlib.suppress(ReportError):
            print_error(message)
        return message.status
    return status


def _flush() -> None:
    """Writes what is still buffered. If there is no room for it, that has been told already; the
    interpreter must not try again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ReportError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
