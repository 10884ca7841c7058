"""Writes output files whole or not at all.

A new file is staged beside its target under a temporary name, synced, and renamed over the target
in one step. Several files can be staged first and then put in place together.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from scpatch.elf.layout import Layout
from scpatch.errors import ScpatchError

_CHUNK = 1 << 26
_BACKGROUND_SYNC = 1 << 23


class Staged(NamedTuple):
    """A finished temporary file and the name that it is for."""

    temporary: Path
    target: Path


def resolve(path: Path) -> Path:
    """The regular file behind symbolic links, or the place for a new one; SCP110 otherwise."""
    try:
        target = path.resolve(strict=False)
        mode = target.stat().st_mode if target.exists() else None
    except (OSError, RuntimeError) as error:
        raise _cannot_write(path, error) from error
    if target.is_symlink():
        # Python 3.13 gives a circle of links back as it is, earlier versions raise.
        raise _cannot_write(path, OSError(errno.ELOOP, os.strerror(errno.ELOOP)))
    if mode is not None and not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise ScpatchError("SCP110", f"cannot write: it is {what}", file=str(path))
    return target


def stage(path: Path, source: int, layout: Layout) -> Staged:
    """Writes a new file beside the file behind `path`, with the mode and owner of `source`.

    `source` is the open input file. Raises SCP110; nothing is left behind then.
    """
    target = resolve(path)
    temporary = _beside(target, "scpatch")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        try:
            with _Syncing(descriptor, layout.size):
                _fill(descriptor, source, layout)
            _take_attributes(descriptor, source)
        finally:
            os.close(descriptor)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise
    return Staged(temporary, target)


def _beside(target: Path, suffix: str) -> Path:
    """A new hidden name in the target's directory, also beside what a killed run has left, and
    where the target's own name is as long as names can be."""
    name = os.fsdecode(os.fsencode(target.name)[:150])
    return target.with_name(f".{name}.{os.urandom(6).hex()}.{suffix}")


def commit(staged: Iterable[Staged], *, backup: bool = False) -> None:
    """Puts staged files in place; with `backup` the old file stays as NAME.orig."""
    for one in staged:
        try:
            if backup:
                _keep_old(one.target)
            os.replace(one.temporary, one.target)
        except OSError as error:
            raise _cannot_write(one.target, error) from error


def make_folder(folder: Path) -> list[Path]:
    """Makes a directory; returns those that were made, none where it was there. Raises SCP110."""
    try:
        folder.mkdir()
    except FileExistsError:
        return []
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return [folder]


def discard(staged: Iterable[Staged], folders: Iterable[Path] = ()) -> None:
    """Removes the temporary files of outputs that are not wanted after all, and directories that
    were made for them, where they are empty."""
    for one in staged:
        with contextlib.suppress(OSError):
            one.temporary.unlink()
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _keep_old(target: Path) -> None:
    original = target.with_name(target.name + ".orig")
    temporary = _beside(target, "orig")
    try:
        os.link(target, temporary)
    except FileNotFoundError:
        return  # a new output
    try:
        os.replace(temporary, original)
    finally:
        # Still there where the backup is the same file already: rename(2) does nothing then.
        temporary.unlink(missing_ok=True)


def _fill(descriptor: int, source: int, layout: Layout) -> None:
    os.truncate(descriptor, layout.size)
    copy_range = _kernel_copy
    for copy in layout.copies:
        done = 0
        while done < copy.size:
            wanted = min(copy.size - done, _CHUNK)
            try:
                count = copy_range(
                    source, descriptor, wanted, copy.source + done, copy.target + done
                )
            except OSError:
                if copy_range is _plain_copy:
                    raise
                # Across filesystems, or on one that cannot: the real error, if it is one,
                # comes back from the plain copy.
                copy_range = _plain_copy
                continue
            if count == 0:
                raise OSError(0, "the input file became shorter while it was read")
            done += count
    for offset, data in layout.writes:
        _write_all(descriptor, data, offset)


def _kernel_copy(source: int, target: int, count: int, at: int, to: int) -> int:
    return os.copy_file_range(source, target, count, at, to)


def _plain_copy(source: int, target: int, count: int, at: int, to: int) -> int:
    data = os.pread(source, min(count, 1 << 20), at)
    _write_all(target, data, to)
    return len(data)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view = view[count:]
        offset += count


class _Syncing(contextlib.AbstractContextManager[None]):
    """Syncs the file at the end; a big one also while it is still being written.

    Writing to the page cache and from there to the disk then overlap: for a 1 GB file that
    takes about as long as the slower of the two instead of the sum.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run) if size >= _BACKGROUND_SYNC else None

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.01):
                os.fdatasync(self._descriptor)
        except OSError as error:
            # The kernel reports a failed write-back to one sync only, so it must not be lost.
            self._error = error

    def __enter__(self) -> None:
        if self._thread is not None:
            self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        if kind is None:
            if self._error is not None:
                raise self._error
            os.fsync(self._descriptor)


def _take_attributes(descriptor: int, source: int) -> None:
    status = os.fstat(source)
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        # EINVAL in a container that does not map the owner.
        with contextlib.suppress(OSError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _cannot_write(path: Path, error: Exception) -> ScpatchError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ScpatchError("SCP110", f"cannot write: {reason}", file=str(path))
