"""Part of the work on one file in a process of its own, so that two processors share it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from scpatch.verifier.phases import mute

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Result = TypeVar("Result")

_WORTHWHILE: Final = 1 << 22
"""Bytes to read that take so long that the start of a process does not count."""
_ENDS: Final = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
_depth = [0]


@contextmanager
def side_by_side() -> Iterator[None]:
    """Lets `beside` start processes. Whoever verifies many files at once has better use for the
    processors, and a process with other threads must not be forked."""
    _depth[0] += 1
    try:
        yield
    finally:
        _depth[0] -= 1


@contextmanager
def undisturbed() -> Iterator[None]:
    """Handlers of the signals that end a program wait until the context ends."""
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _ENDS}
    is_main = threading.current_thread() is threading.main_thread()  # handlers run in that one
    held = {number: old for number, old in handlers.items() if is_main and callable(old)}
    try:
        for number in held:
            signal.signal(number, lambda number, _frame: came.append(number))
        yield
    finally:
        for number, old in held.items():
            signal.signal(number, old)
        for late in came:
            signal.raise_signal(late)


@contextmanager
def beside(work: Callable[[], Result], size: int) -> Iterator[Callable[[], Result]]:
    """Begins `work` in a forked process and yields what waits for its result, which must be data
    that can be pickled. The process ends with the context.

    This process does the work, and raises what that raises, when its result is wanted: if the other
    process did not come to a result, or was not started, as `size` bytes are too few, or there is
    no other processor.
    """
    if not _depth[0] or size < _WORTHWHILE or len(os.sched_getaffinity(0)) < 2:
        yield work
        return
    import multiprocessing

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(work, sender), daemon=True)

    def wait() -> Result:
        try:
            result: Result = receiver.recv()
        except EOFError:
            return work()
        return result

    try:
        with undisturbed(), suppress(OSError):  # too many processes: the pipe ends at once
            process.start()
        sender.close()
        yield wait
    finally:
        if process.pid is not None:
            process.terminate()
            process.join()
        receiver.close()


def _send(work: Callable[[], Result], sender: Connection) -> None:
    """Does the work in the forked process. Ctrl-C is for the other one, which then ends this."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    mute()
    with suppress(Exception):
        sender.send(work())


def _end(number: int, _frame: object) -> NoReturn:
    """Ends by an exception, so that temporary files are removed and programs are stopped; once,
    since a signal to both processes comes from the other one, too."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)
