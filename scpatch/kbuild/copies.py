"""Rewritten copies of the inputs of a link, made once and used by all its passes.

A copy lies in a folder beside the output, with a record of what it was made from: device, inode,
size and time of every file, and the settings. As long as all of that is the same, the copy is.
The names are such that `make clean` removes the files (scripts/Makefile.clean takes `.tmp_*`, *.o
and *.a anywhere).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scpatch.errors import ScpatchError
from scpatch.kbuild.settings import Settings

if TYPE_CHECKING:
    from scpatch.inputs import Input
    from scpatch.rewrite import FilePlan

FOLDER = ".tmp_vmlinux.scpatch"

Identities = dict[str, list[int]]
"""What tells a file from a changed one, by its path."""


class Record(NamedTuple):
    """What a kept file was made from: a JSON file beside it."""

    path: Path
    key: str
    """What it depends on beside its sources."""

    def holds(self) -> bool:
        """Whether the sources and what was made from them are as they were."""
        return self.copies() is not None

    def copies(self) -> list[str] | None:
        """What was made, nothing where nothing had to be; None where that is not known or not
        true any more."""
        try:
            known = json.loads(self.path.read_bytes())
            if known["key"] != self.key:
                return None
            files = {**known["sources"], **known["copies"]}
            if any(_identity(path) != identity for path, identity in files.items()):
                return None
            return list(known["copies"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def forget(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def keep(self, sources: Identities, made: Iterable[str]) -> None:
        """`sources` are from before they were read."""
        new = {"key": self.key, "sources": sources, "copies": identities(made)}
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.write_text(json.dumps(new))
        temporary.replace(self.path)


class Copy(NamedTuple):
    """What a link is to use for one of its inputs."""

    source: str
    """The input as the command names it."""
    path: str
    """The copy; the same as `source` where nothing is to be rewritten."""
    plan: FilePlan | None
    """What is to be written, or was just found; None where the copy of an earlier run serves."""
    record: Record
    sources: Identities


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other links that use the same folder away, until they find the copies made."""
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ScpatchError("SCP110", f"cannot write: {error.strerror}", file=str(folder)) from error
    try:
        # Not every network filesystem locks directories; make runs these links one by one anyway.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def copy_of(source: str, folder: Path, settings: Settings) -> Copy:
    """Finds or plans the rewritten copy of an input. Writes nothing.

    Raises ScpatchError for an input that cannot be read or is no object for ppc64le.
    """
    target = folder / _name(source)
    record = Record(folder / f".tmp_{target.name}.json", settings.key)
    done = record.copies()
    if done is not None:
        return Copy(source, str(target) if done else source, None, record, {})
    from scpatch.rewrite import plan_file

    sources = sources_of(source)
    if not sources:
        return Copy(source, source, None, record, {})
    plan = plan_file(Path(source), settings.image_options, target)
    changed = any(one.plan.changed for one in plan.objects)
    path = str(target) if changed else source
    return Copy(source, path, plan, record, sources)


def make(copy: Copy) -> None:
    """Writes a planned copy and then its record, so that no record is ever without its copy."""
    if copy.plan is None:
        return
    from scpatch.rewrite import write

    copy.record.forget()
    outputs: list[str] = []
    if copy.path != copy.source:
        write([copy.plan])
        outputs = [str(one.target) for one in copy.plan.outputs]
        _remove_others(Path(copy.path + ".members"), {os.path.basename(name) for name in outputs})
    copy.record.keep(copy.sources, outputs)


def _name(source: str) -> str:
    """A file name for the copy; two inputs of one link never share it."""
    stem, suffix = os.path.splitext(os.path.basename(source))
    digest = blake2b(os.fsencode(os.path.normpath(source)), digest_size=6).hexdigest()
    return f"{stem.lstrip('.')[:100]}.{digest}{suffix[:20]}"


def sources_of(name: str) -> Identities:
    """The files that an input is made of, as they are now: itself and, of a thin archive, its
    members. None where it is no object and no archive; linkers also take scripts and bitcode."""
    from scpatch.inputs import is_archive, open_input

    with open_input(Path(name)) as source:
        if is_archive(source.data):
            return identities([name, *_members(source)])
        return identities([name]) if bytes(source.data[:4]) == b"\x7fELF" else {}


def _members(source: Input) -> Iterator[str]:
    """The files of a thin archive."""
    from scpatch.elf.archive import read_archive

    archive = read_archive(source.data, str(source.path))
    if archive.thin:
        start = os.path.dirname(source.path)
        yield from dict.fromkeys(os.path.join(start, member.name) for member in archive.members)


def identities(paths: Iterable[str]) -> Identities:
    return {path: _identity(path) for path in paths}


def _identity(path: str) -> list[int]:
    """Empty where there is no such file; then the plan tells."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Removes copies of members that have no call sites any more, or are members no more, and what
    a killed run has left."""
    for one in folder.iterdir() if folder.is_dir() else ():
        if one.name not in wanted:
            with contextlib.suppress(OSError):
                one.unlink()


def cannot_use(path: str) -> ScpatchError:
    """The error for a response file, whose inputs would go unseen."""
    return ScpatchError(
        "SCP109",
        "a response file in a link of vmlinux: its inputs would not be rewritten",
        file=path,
        hint="name the inputs on the command line",
    )
