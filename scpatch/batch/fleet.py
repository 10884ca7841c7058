"""Workers on other machines, through a scheduler of dask.

A worker reads and writes the same paths as this process, so it needs the same file system, and the
same scpatch. Both are checked with each part of the work. The scheduler gives the part of a worker
that is lost to another one. That is safe: work on a file makes at most a file with a hidden name,
and only the process that has started the work renames those, each once, or removes them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from scpatch.errors import ScpatchError

# By name: `scpatch` refers to the whole library, though it imports that when it is used only.
_VERSION: Final[str] = import_module("scpatch").__version__

_CONNECT: Final = 10
"""Seconds to wait for the scheduler, and for its first worker."""
_PATIENCE: Final = 60
"""Seconds to wait for a worker after the last one was lost."""

_Seen = Mapping[str, tuple[int, ...]]
"""Paths, with what tells that a worker sees the same files there."""

_one_at_a_time = threading.Lock()
"""A worker may have several threads, but a process has one current folder."""


@contextmanager
def fleet(address: str) -> Iterator[Executor]:
    """The workers of the scheduler at `address` as an executor.

    Raises SCP123 if dask is not installed, or if there is no scheduler or no worker.
    """
    try:
        import distributed
    except ImportError as error:
        hint = "install it with scpatch: pip install 'scpatch[dask]'"
        raise ScpatchError("SCP123", "dask is not installed here", hint=hint) from error
    # It says what it does about lost workers: here, a message says what cannot be done.
    logging.disable(logging.CRITICAL)
    try:
        connect: Any = distributed.Client
        client = connect(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ScpatchError(
            "SCP123",
            f"no scheduler of dask at {address}: {error}",
            hint="start one with `dask scheduler`; an address is such as tcp://HOST:8786",
        ) from error
    try:
        if not _has_workers(client, _CONNECT):
            raise ScpatchError(
                "SCP123",
                f"the scheduler at {address} has no workers",
                hint=f"start some, on each machine: dask worker {address} --nthreads 1",
            )
        yield _Fleet(client)
    finally:
        client.close()
        logging.disable(logging.NOTSET)


def _has_workers(client: Any, patience: float) -> bool:
    """Whether there is a worker, or comes one in so many seconds."""
    end = time.monotonic() + patience
    while not client.scheduler_info(n_workers=-1)["workers"]:
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


class _Fleet(Executor):
    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor: Executor = client.get_executor()

    def submit(self, work: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        seen = {str(path): now for path in _paths(args) if (now := _look(path))}
        inner = self._executor.submit(_checked, _VERSION, os.getcwd(), seen, work, args)
        return _Result(inner, self._client)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """With `cancel_futures`, waits for what the workers have begun: nothing can stop it."""
        self._executor.shutdown(wait=wait and not cancel_futures)
        if cancel_futures:
            with suppress(OSError):  # the scheduler is lost, and nobody knows of the workers
                self._client.run(_finish, on_error="ignore")


class _Result(Future[Any]):
    """The result of a part. That it is lost has the name that `concurrent.futures` gives it."""

    def __init__(self, inner: Future[Any], client: Any) -> None:
        super().__init__()
        self._inner = inner
        self._client = client

    def result(self, timeout: float | None = None) -> Any:
        from distributed import KilledWorker

        try:
            while True:
                try:
                    return self._inner.result(1)
                except TimeoutError:
                    if not self._inner.done() and not _has_workers(self._client, _PATIENCE):
                        raise BrokenExecutor("the scheduler has no workers any more") from None
        except (KilledWorker, CancelledError, OSError) as error:
            raise BrokenExecutor(str(error)) from error

    def cancel(self) -> bool:
        return self._inner.cancel()


def _paths(value: object, depth: int = 4) -> Iterator[Path]:
    """The paths in the arguments of a part: (work, [item, ...]), an item being a path, or a tuple
    with paths or with a tuple that has them."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (tuple, list)) and depth:
        for part in value:
            yield from _paths(part, depth - 1)


def _look(path: Path) -> tuple[int, ...]:
    """What is the same for each machine that sees the file: inode, size, time of the last change.
    Of a new file, and of a folder, the folder's inode."""
    for seen in (path, path.parent):
        try:
            status = os.stat(seen)
        except OSError:
            continue
        if seen is path and not os.path.isdir(path):
            return status.st_ino, status.st_size, status.st_mtime_ns
        return (status.st_ino,)
    return ()


def _checked(
    version: str, folder: str, seen: _Seen, work: Callable[..., Any], args: Sequence[Any]
) -> Any:
    """Runs in a worker: does a part in the folder that its paths are relative to.

    Raises SCP123 if the worker has another scpatch or sees other files.
    """
    worker = f"the worker on {socket.gethostname()} (process {os.getpid()})"
    if version != _VERSION:
        raise ScpatchError(
            "SCP123",
            f"{worker} has scpatch {_VERSION}, not {version}",
            hint="install the same version everywhere",
        )
    with _one_at_a_time:
        try:
            os.chdir(folder)
        except OSError as error:
            raise _elsewhere(worker, folder) from error
        for path, expected in seen.items():
            if _look(Path(path)) != expected:
                raise _elsewhere(worker, path)
        return work(*args)


async def _finish() -> None:
    """Runs in a worker: waits for the part that it works on."""
    await asyncio.to_thread(_one_at_a_time.acquire)
    _one_at_a_time.release()


def _elsewhere(worker: str, path: str) -> ScpatchError:
    return ScpatchError(
        "SCP123",
        f"{worker} sees another file there, or none",
        file=path,
        hint="workers need the file system of this machine, mounted at the same path",
    )
