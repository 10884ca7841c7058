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
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from scpatch.elf.archive import read_archive
from scpatch.errors import ScpatchError
from scpatch.inputs import Input, is_archive, open_input
from scpatch.kbuild.settings import Settings
from scpatch.rewrite import FilePlan, plan_file, write

FOLDER = ".tmp_vmlinux.scpatch"

Identities = dict[str, list[int]]
"""What tells a file from a changed one, by its path."""


class Copy(NamedTuple):
    """What a link is to use for one of its inputs."""

    source: str
    """The input as the command names it."""
    path: str
    """The copy; the same as `source` where nothing is to be rewritten."""
    plan: FilePlan | None
    """What is to be written, or was just found; None where the copy of an earlier run serves."""
    record: Path
    key: str
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
    record = folder / f".tmp_{target.name}.json"
    done = _recorded(record, settings.key)
    if done is not None:
        return Copy(source, str(target) if done else source, None, record, settings.key, {})
    with open_input(Path(source)) as opened:
        if not _is_linkable(opened):
            return Copy(source, source, None, record, settings.key, {})
        # Before the files are read: what changes meanwhile is then noticed the next time.
        sources = _identities(_files(opened))
    plan = plan_file(Path(source), settings.options, target)
    changed = any(one.plan.changed for one in plan.objects)
    path = str(target) if changed else source
    return Copy(source, path, plan, record, settings.key, sources)


def make(copy: Copy) -> None:
    """Writes a planned copy and then its record, so that no record is ever without its copy."""
    if copy.plan is None:
        return
    with contextlib.suppress(FileNotFoundError):
        copy.record.unlink()
    outputs: list[str] = []
    if copy.path != copy.source:
        members = Path(copy.path + ".members")
        members.mkdir(exist_ok=True)
        write([copy.plan])
        outputs = [str(one.target) for one in copy.plan.outputs]
        _remove_others(members, {os.path.basename(name) for name in outputs})
    new = {"key": copy.key, "sources": copy.sources, "copies": _identities(outputs)}
    temporary = copy.record.with_name(copy.record.name + ".new")
    temporary.write_text(json.dumps(new))
    temporary.replace(copy.record)


def _name(source: str) -> str:
    """A file name for the copy; two inputs of one link never share it."""
    stem, suffix = os.path.splitext(os.path.basename(source))
    digest = blake2b(os.fsencode(os.path.normpath(source)), digest_size=6).hexdigest()
    return f"{stem.lstrip('.')[:100]}.{digest}{suffix[:20]}"


def _is_linkable(source: Input) -> bool:
    """Whether a file is an object or an archive; linkers also take scripts and bitcode."""
    return is_archive(source.data) or bytes(source.data[:4]) == b"\x7fELF"


def _files(source: Input) -> Iterator[str]:
    """The files that an input is made of: itself and, of a thin archive, its members."""
    yield str(source.path)
    if is_archive(source.data):
        archive = read_archive(source.data, str(source.path))
        if archive.thin:
            start = os.path.dirname(source.path)
            yield from {os.path.join(start, member.name): None for member in archive.members}


def _identities(paths: Iterator[str] | list[str]) -> Identities:
    return {path: _identity(path) for path in paths}


def _identity(path: str) -> list[int]:
    """Empty where there is no such file; then the plan tells."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def _recorded(record: Path, key: str) -> bool | None:
    """Whether there is a copy (True) or none is needed (False); None where that is not known or
    not true any more."""
    try:
        known = json.loads(record.read_bytes())
        if known["key"] != key:
            return None
        files = {**known["sources"], **known["copies"]}
        if any(_identity(path) != identity for path, identity in files.items()):
            return None
        return bool(known["copies"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Removes copies of members that have no call sites any more, or are members no more, and what
    a killed run has left."""
    for one in folder.iterdir():
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
