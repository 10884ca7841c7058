"""Worker processes on this machine. They end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """An executor with so many processes. At the end of the context, work that has not begun is
    dropped; after an exception, the processes are stopped in the middle of theirs."""
    # A forked process has all modules already; this one has no thread yet that could hold a lock.
    context = multiprocessing.get_context("fork")
    executor = ProcessPoolExecutor(number, context, _start)
    try:
        executor.submit(os.getpid).result()  # forks all of them now
        yield executor
    except BaseException:
        for process in list((executor._processes or {}).values()):
            process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Prepares a worker. Ctrl-C is for the process that started it, which then stops this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
