"""Writes output files whole or not at all.

A new file is staged in its target's directory without a name (O_TMPFILE), synced if the caller
wants that, given a hidden name with linkat(2), and renamed over the target in one step. A killed
run leaves no file, unless it is killed between these last two steps. If the file system has no
files without names, or /proc is not mounted, the file has its hidden name from the start. Several
files can be staged first and then put in place together.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scpatch.elf.layout import Layout, unchanged
from scpatch.errors import ScpatchError
from scpatch.files.filling import fill

_DESCRIPTORS = Path("/proc/self/fd")
_TO_STDOUT = "`-o -` writes to standard output, also into a pipe"


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
    sync: bool = False
    """Whether the content is on the disk already, and has to be before the file gets its name."""

    @property
    def path(self) -> Path:
        """Where the content can be read before `commit`."""
        return self.temporary if self.descriptor < 0 else _DESCRIPTORS / str(self.descriptor)


def most_unnamed() -> int:
    """How many staged files may be without a name: each keeps a descriptor open, and half of those
    that are still free (RLIMIT_NOFILE) are left to everything else."""
    try:
        used = len(os.listdir(_DESCRIPTORS))
    except OSError:
        return 0  # see `_open_unnamed`
    return max(0, os.sysconf("SC_OPEN_MAX") - used) // 2


def resolve(path: Path) -> Path:
    """The regular file that `path` leads to, or the path of a new one; SCP110 otherwise."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise cannot_write(path, error) from error
    if mode is not None and not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        hint = f"name a file in it, such as {path}/x.o" if stat.S_ISDIR(mode) else _TO_STDOUT
        raise ScpatchError("SCP110", f"cannot write: it is {what}", file=str(path), hint=hint)
    return path.resolve()


def stage(
    path: Path,
    source: int,
    layout: Layout,
    *,
    sync: bool = False,
    unnamed: bool = True,
    folder: bool = False,
    mark: str = "",
) -> Staged:
    """Writes a new file that is to replace `path`, with the mode and owner of `source`. It has no
    name, if that is possible and `unnamed` permits it; else one with `mark` in it.

    `source` is the open input file. With `sync` the content is on the disk before this returns.
    With `folder` the target's directory is made if it is missing. Raises SCP110; nothing is left
    then. The caller must call `discard` in the end, even after `commit`.
    """
    target = resolve(path)
    new_folder = folder and not target.parent.exists()
    staged = Staged(_beside(target, f"{mark}scpatch"), target, -1, new_folder, sync)
    try:
        if unnamed:
            staged = staged._replace(
                descriptor=_open_unnamed(target.parent.parent if new_folder else target.parent)
            )
        if staged.descriptor >= 0:
            fill(staged.descriptor, source, layout, sync=sync)
        else:
            _make_folder(staged)
            _fill_named(staged.temporary, source, layout, sync=sync)
    except BaseException as error:
        discard([staged])
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    return staged


def stage_text(path: Path, text: str, source: int) -> Staged:
    """Writes a new file with this text, as `stage` does."""
    data = os.fsencode(text)
    return stage(path, source, Layout(len(data), (), ((0, data),)))


def _open_unnamed(folder: Path) -> int:
    """A new file without a name; -1 if there is none, for whatever reason: if the reason prevents a
    file with a name too, opening that reports it."""
    if not _DESCRIPTORS.is_dir():
        return -1
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1


def _fill_named(path: Path, source: int, layout: Layout, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fill(descriptor, source, layout, sync=sync)
    finally:
        os.close(descriptor)


def _beside(target: Path, suffix: str) -> Path:
    """A new hidden name in the target's directory. It differs from what a killed run has left, and
    fits if the target's name is as long as names can be."""
    name = os.fsdecode(os.fsencode(target.name)[:150])
    return target.with_name(f".{name}.{os.urandom(6).hex()}.{suffix}")


def write_content(path: Path, content: bytes, *, sync: bool | None = None) -> None:
    """Writes a file that comes from no other one, with the mode that a new file has. Raises
    SCP110; the old file is then as it was.

    `sync` says whether the file is on the disk before it gets its name; None: if it replaces an old
    one, whose content is nowhere else. If it is true, the name is on the disk in the end as well.
    """
    import tempfile

    layout = Layout(len(content), (), ((0, content),))
    mask = os.umask(0)
    os.umask(mask)
    with tempfile.TemporaryFile() as model:
        os.fchmod(model.fileno(), 0o666 & ~mask)
        first = path.exists() if sync is None else sync
        staged = [stage(path, model.fileno(), layout, sync=first)]
        try:
            commit(staged, sync=bool(sync))
        finally:
            discard(staged)


def sweep(folders: Iterable[Path], mark: str) -> None:
    """Removes the staged files with `mark` in their hidden names, which a process that has ended
    may have left in these folders."""
    for folder in folders:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if name.startswith(".") and name.endswith(f".{mark}scpatch"):
                    os.unlink(folder / name)


@contextlib.contextmanager
def new_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Makes the folders that are missing; at the end, removes those of them that are empty. Raises
    SCP110 if one cannot be made."""
    made: list[Path] = []
    try:
        for folder in folders:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            for path in reversed(missing):
                try:
                    path.mkdir()
                except OSError as error:
                    raise cannot_write(path, error) from error
                made.append(path)
        yield
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()


def commit(staged: Sequence[Staged], *, backup: bool = False, sync: bool = False) -> None:
    """Puts staged files in place; with `backup` the old file stays as NAME.orig, and with `sync`
    the new names are on the disk in the end.

    All files get their names first: if the directory has no room for one of them, none is put in
    place.
    """
    for file in staged:
        _make_folder(file)
        try:
            _give_name(file)
        except OSError as error:
            raise cannot_write(file.target, error) from error
    for file in staged if backup else ():
        _back_up(file.target)
    for file in staged:
        try:
            os.replace(file.temporary, file.target)
        except OSError as error:
            raise cannot_write(file.target, error) from error
    if sync:
        _sync_folders(staged)


def _sync_folders(staged: Sequence[Staged]) -> None:
    folders = {file.target.parent for file in staged}
    folders |= {file.target.parent.parent for file in staged if file.new_folder}
    for folder in folders:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            # Not every filesystem of a network syncs directories.
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise cannot_write(folder, error) from error


def _give_name(file: Staged) -> None:
    if file.descriptor < 0:
        return
    try:
        # A directory descriptor, though the path is absolute: without it, Python calls link(2),
        # which does not follow the symbolic link in /proc.
        os.link(file.path, file.temporary, src_dir_fd=file.descriptor, follow_symlinks=True)
    except OSError:
        # The file system cannot do it after all, or the file now has an owner whose files the
        # kernel does not let us link (fs.protected_hardlinks).
        size = os.fstat(file.descriptor).st_size
        _fill_named(file.temporary, file.descriptor, unchanged(size), sync=file.sync)


def _make_folder(file: Staged) -> None:
    """Makes the target's directory, unless another output of the same run has made it."""
    if file.new_folder:
        try:
            file.target.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(file.target.parent, error) from error


def discard(staged: Sequence[Staged]) -> None:
    """Removes what was not put in place: new files, and the directories that were made for them,
    if they are empty."""
    for file in staged:
        with contextlib.suppress(OSError):
            file.temporary.unlink()
        with contextlib.suppress(OSError):
            if file.descriptor >= 0:
                os.close(file.descriptor)
    for folder in {file.target.parent for file in staged if file.new_folder}:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _back_up(target: Path) -> None:
    original = target.with_name(target.name + ".orig")
    temporary = _beside(target, "orig")
    try:
        os.link(target, temporary)
        os.replace(temporary, original)
    except FileNotFoundError:
        return  # a new output
    except OSError as error:
        raise cannot_write(original, error) from error
    finally:
        # If the backup is the same file already, rename(2) does nothing, and it is still there.
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: Exception) -> ScpatchError:
    """The error for a file that cannot be made, replaced or removed: SCP110."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    from scpatch.files import remedies

    hint = remedies.cannot_write(path, error)
    return ScpatchError("SCP110", f"cannot write: {reason}", file=str(path), hint=hint)
