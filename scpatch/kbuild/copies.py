"""Rewritten copies of the inputs of a link, made once and used by all its passes.

A copy lies in a folder beside the output, with a record of what it was made from. As long as that
is the same, the copy is. Refused call sites are an exception: the first link of a build looks at
their objects again, so that they are told of in each build.
The names are such that `make clean` removes the files (scripts/Makefile.clean takes `.tmp_*`, *.o
and *.a anywhere).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scpatch.errors import ScpatchError
from scpatch.kbuild.record import Record, digest, identities
from scpatch.kbuild.settings import Settings

if TYPE_CHECKING:
    from scpatch.kbuild.plans import Planned

FOLDER = ".tmp_vmlinux.scpatch"


class Copy(NamedTuple):
    """What a link is to use for one of its inputs."""

    source: str
    """The input as the command names it."""
    path: str
    """The copy; the same as `source` where nothing is to be rewritten."""
    planned: Planned | None
    """What is to be written, or was just found; None where the copy of an earlier run serves."""
    record: Record


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


def copy_of(source: str, folder: Path, settings: Settings, *, first: bool) -> Copy:
    """Finds or plans the rewritten copy of an input. Writes nothing.

    `first` is for the first link of a build. Raises ScpatchError for an input that cannot be read
    or is no object for ppc64le.
    """
    target = folder / _name(source)
    record = Record(folder / f".tmp_{target.name}.json", settings.key)
    known = record.read()
    if known.holds() and not (first and known.refused):
        return Copy(source, str(target) if known.copies else source, None, record)
    from scpatch.kbuild.plans import plan_copy

    planned = plan_copy(source, target, settings.image_options, known)
    changed = planned is not None and planned.changed
    return Copy(source, str(target) if changed else source, planned, record)


def make(copy: Copy, settings: Settings) -> None:
    """Writes a planned copy and then its record, so that no record is ever without its copy.

    Raises RefusedError if call sites were refused, unless the settings allow them.
    """
    if copy.planned is None:
        return
    from scpatch.rewriter import write

    plan, known = copy.planned.plan, copy.planned.known
    copy.record.forget()
    copies = known.copies
    if copy.path != copy.source:
        write([plan], allow_refused=settings.warn_only)
        copies = {**copies, **identities(str(one.target) for one in plan.outputs)}
        _remove_others(Path(copy.path + ".members"), set(map(os.path.basename, copies)))
    copy.record.keep(known._replace(copies=copies))


def _name(source: str) -> str:
    """A file name for the copy; two inputs of one link never share it."""
    stem, suffix = os.path.splitext(os.path.basename(source))
    number = digest(os.fsencode(os.path.normpath(source)))
    return f"{stem.lstrip('.')[:100]}.{number}{suffix[:20]}"


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
