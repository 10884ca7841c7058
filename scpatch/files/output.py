"""Writes output files whole or not at all.

A new file is staged in its target's directory without a name (O_TMPFILE), synced, given a hidden
name with linkat(2), and renamed over the target in one step. A run that is killed leaves nothing
behind, unless it is killed between these last two steps. Where the file system has no files without
names, or /proc is not mounted, the hidden name is there from the start. Several files can be staged
first and then put in place together.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scpatch.elf.layout import Layout, unchanged
from scpatch.errors import ScpatchError
from scpatch.files.filling import fill

_DESCRIPTORS = Path("/proc/self/fd")


class Staged(NamedTuple):
    """A finished new file and the name that it is for."""

    temporary: Path
    """The hidden name that the file has, or that `commit` gives it for an instant."""
    target: Path
    descriptor: int = -1
    """The open file, if it has no name yet; `discard` closes it."""
    new_folder: bool = False
    """Whether the target's directory is new too. Without a name, the file is in the one above it
    until `commit` makes the directory."""

    @property
    def path(self) -> Path:
        """Where the content can be read before `commit`."""
        return self.temporary if self.descriptor < 0 else _DESCRIPTORS / str(self.descriptor)


def most_unnamed() -> int:
    """How many staged files may be without a name: each keeps a descriptor open, and half of those
    that are still to be had (RLIMIT_NOFILE) are left to everything else."""
    try:
        used = len(os.listdir(_DESCRIPTORS))
    except OSError:
        return 0  # see `_open_unnamed`
    return max(0, os.sysconf("SC_OPEN_MAX") - used) // 2


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


def stage(
    path: Path, source: int, layout: Layout, *, unnamed: bool = True, folder: bool = False
) -> Staged:
    """Writes a new file for the place of the file behind `path`, with the mode and owner of
    `source`, and without a name, if that is possible and `unnamed` permits it.

    `source` is the open input file. With `folder` the target's directory is made if it is missing.
    Raises SCP110; nothing is left behind then. The caller has to call `discard` in the end, also
    after `commit`.
    """
    target = resolve(path)
    new_folder = folder and not target.parent.exists()
    staged = Staged(_beside(target, "scpatch"), target, -1, new_folder)
    try:
        if unnamed:
            staged = staged._replace(
                descriptor=_open_unnamed(target.parent.parent if new_folder else target.parent)
            )
        if staged.descriptor >= 0:
            fill(staged.descriptor, source, layout)
        else:
            _make_folder(staged)
            _fill_named(staged.temporary, source, layout)
    except BaseException as error:
        discard([staged])
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise
    return staged


def _open_unnamed(folder: Path) -> int:
    """A new file without a name; -1 where that cannot be had, for whatever reason: if the reason
    stands in the way of a file with a name too, opening that one tells it."""
    if not _DESCRIPTORS.is_dir():
        return -1
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1


def _fill_named(path: Path, source: int, layout: Layout) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fill(descriptor, source, layout)
    finally:
        os.close(descriptor)


def _beside(target: Path, suffix: str) -> Path:
    """A new hidden name in the target's directory, also beside what a killed run has left, and
    where the target's own name is as long as names can be."""
    name = os.fsdecode(os.fsencode(target.name)[:150])
    return target.with_name(f".{name}.{os.urandom(6).hex()}.{suffix}")


def commit(staged: Sequence[Staged], *, backup: bool = False) -> None:
    """Puts staged files in place; with `backup` the old file stays as NAME.orig.

    All files get their names first: if the directory has no room for one of them, none is put in
    place.
    """
    for one in staged:
        _make_folder(one)
        try:
            _give_name(one)
        except OSError as error:
            raise _cannot_write(one.target, error) from error
    for one in staged:
        try:
            if backup:
                _keep_old(one.target)
            os.replace(one.temporary, one.target)
        except OSError as error:
            raise _cannot_write(one.target, error) from error


def _give_name(one: Staged) -> None:
    if one.descriptor < 0:
        return
    try:
        # A directory descriptor, though the path is absolute: without one, Python calls link(2),
        # which does not follow the symbolic link in /proc.
        os.link(one.path, one.temporary, src_dir_fd=one.descriptor, follow_symlinks=True)
    except OSError:
        # A file system that only seems to be able to, or a file that has been given to an owner
        # whose files the kernel does not let us link (fs.protected_hardlinks).
        size = os.fstat(one.descriptor).st_size
        _fill_named(one.temporary, one.descriptor, unchanged(size))


def _make_folder(one: Staged) -> None:
    """Makes the target's directory, unless another output of the same run has made it."""
    if one.new_folder:
        try:
            one.target.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise _cannot_write(one.target.parent, error) from error


def discard(staged: Sequence[Staged]) -> None:
    """Removes what has not been put in place: new files, and directories that were made for them,
    where they are empty."""
    for one in staged:
        with contextlib.suppress(OSError):
            one.temporary.unlink()
        with contextlib.suppress(OSError):
            if one.descriptor >= 0:
                os.close(one.descriptor)
    for folder in {one.target.parent for one in staged if one.new_folder}:
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


def _cannot_write(path: Path, error: Exception) -> ScpatchError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ScpatchError("SCP110", f"cannot write: {reason}", file=str(path))
