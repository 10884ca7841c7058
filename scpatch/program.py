"""How a program starts and ends: standard streams, signals, and every error as one message.

This module imports nothing slow, so that `run` can handle Ctrl-C early. Therefore it imports from
`_signal`, the built-in module that `signal` wraps.
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
    """A signal told the program to end. An exception, so that unfinished files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class ReportError(Exception):
    """A standard stream cannot be written. Not an OSError, which libraries would catch."""

    def __init__(self, stream: int, error: OSError) -> None:
        super().__init__(error.strerror)
        self.stream = {1: "stdout", 2: "stderr"}[stream]

    def message(self) -> ScpatchError:
        from scpatch.errors import ScpatchError

        return ScpatchError("SCP136", f"cannot write the report: {self}", file=self.stream)


def run(program: Callable[[], int]) -> NoReturn:
    """Runs a program and ends the process with the exit code that it returns, or by the signal
    that stopped it. Only a bug in scpatch shows a traceback."""
    # Before and after there is something to clean up, Ctrl-C ends the process at once.
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)
    # Tables of tens of thousands of rows live until the end. To search them for cycles again and
    # again costs a tenth of a run and finds none.
    gc.set_threshold(100_000)
    _prepare_streams()
    caught = [number for number in (SIGINT, SIGTERM, SIGHUP) if getsignal(number) is SIG_DFL]
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
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Ends the process. At its end the interpreter frees everything that was imported, which takes
    a tenth of the time for a small object or more; the end of the process frees it as well."""
    # LIEF's binding reports what the interpreter does not free as leaks, on stderr.
    if "lief" not in sys.modules:
        gc.freeze()
        # Only a thread, or what uses threads, leaves something else to do.
        if "threading" not in sys.modules:
            os._exit(status)
    sys.exit(status)


def _prepare_streams() -> None:
    """Replaces stdout and stderr: a failed write raises `ReportError`, and a name that is not text
    is escaped. Opens standard streams that are closed; else a file would get their numbers, and
    then the output."""
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
            # The reader has gone. This ends any program that does not handle SIGPIPE.
            raise Stopped(SIGPIPE) from None
        except OSError as error:
            raise ReportError(self.fileno(), error) from error


def _stop(number: int, _frame: object) -> None:
    raise Stopped(number)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops an exception in a finalizer or a callback, but no signal must be lost."""
    if isinstance(unraisable.exc_value, Stopped):
        _die(unraisable.exc_value.number)
    sys.__unraisablehook__(unraisable)


def _die(number: int) -> NoReturn:
    """Ends the process by the signal, so that a shell or make knows that it was stopped."""
    signal(number, SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the signal is blocked


def _status(program: Callable[[], int]) -> int:
    """The exit code of the program. Prints any error as a message on stderr."""
    try:
        status = program()
        sys.stdout.flush()
    except Exception as error:
        from scpatch.report.errors import as_message, print_errors

        message = error.message() if isinstance(error, ReportError) else as_message(error)
        with contextlib.suppress(ReportError):
            print_errors([message])
        return message.status
    return status


def _flush() -> None:
    """Writes what is still buffered. An error has been printed already, so the interpreter must not
    try again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ReportError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
