"""Fills a new file: with ranges of the old file, new bytes, mode and owner; syncs it if asked."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from scpatch.elf.layout import Layout

_CHUNK = 1 << 26
_PAGE = 1 << 12
_ALIGNED = 1 << 20
"""More bytes than this are copied from the start of a page on. Whole pages take the kernel less
time than parts of two, and a large part has the same place in its page in both files (`_BULK` in
`scpatch.elf.layout`)."""
_BACKGROUND_SYNC = 1 << 23


def fill(descriptor: int, source: int, layout: Layout, *, sync: bool) -> None:
    """Makes the empty file `descriptor` what `layout` makes of the open file `source`, with the
    mode and owner of that. With `sync`, waits until the content is on the disk. Raises OSError."""
    with _syncing(descriptor, layout.size) if sync else contextlib.nullcontext():
        _copy(descriptor, source, layout)
    _take_attributes(descriptor, source)


def _copy(descriptor: int, source: int, layout: Layout) -> None:
    os.truncate(descriptor, layout.size)
    copy_range = _kernel_copy
    for copy in layout.copies:
        done = 0
        while done < copy.size:
            at, to = copy.source + done, copy.target + done
            wanted = min(copy.size - done, _CHUNK)
            if wanted > _ALIGNED and to % _PAGE:
                wanted = _PAGE - to % _PAGE
            try:
                count = copy_range(source, descriptor, wanted, at, to)
            except OSError:
                if copy_range is _plain_copy:
                    raise
                # Across filesystems, or if the filesystem cannot do it. If the error is a real
                # one, the plain copy gives it again.
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


@contextlib.contextmanager
def _syncing(descriptor: int, size: int) -> Iterator[None]:
    """Syncs the file at the end; a big file also while it is being written.

    Writing to the page cache and from there to the disk then overlap: for a 1 GB file that
    takes about as long as the slower of the two instead of the sum.
    """
    if size < _BACKGROUND_SYNC:
        yield
        os.fsync(descriptor)
        return
    import threading

    stop = threading.Event()
    errors: list[OSError] = []

    def sync() -> None:
        try:
            while not stop.wait(0.01):
                os.fdatasync(descriptor)
        except OSError as error:
            # The kernel reports a failed write-back only once, so it must not be lost.
            errors.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    for error in errors:
        raise error
    os.fsync(descriptor)


def _take_attributes(descriptor: int, source: int) -> None:
    status = os.fstat(source)
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        # EINVAL in a container that does not map the owner.
        with contextlib.suppress(OSError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
