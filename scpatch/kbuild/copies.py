"""Rewritten copies of the inputs of a link, made once and used by all its passes.

The copies are in a folder beside the output, each with a record of what it was made from. A copy
serves until that changes. Refused call sites are the exception: the first link of a build looks at
their objects again, so that each build reports them. `make clean` removes the files by their names:
scripts/Makefile.clean takes `.tmp_*`, *.o and *.a anywhere.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scpatch.kbuild.record import NOTHING, RecordFile, digest, identities
from scpatch.kbuild.settings import Settings

if TYPE_CHECKING:
    from scpatch.kbuild.plans import Planned

FOLDER = ".tmp_vmlinux.scpatch"


class LinkInput(NamedTuple):
    """What a link is to use for one of its inputs."""

    source: str
    """The input as the command names it."""
    path: str
    """The copy; the same as `source` if nothing is to be rewritten."""
    planned: Planned | None
    """What is to be written; None if the copy of an earlier run serves."""
    record: RecordFile


def prepare(
    sources: Sequence[str], folder: Path, settings: Settings, *, whole: bool, first: bool
) -> list[LinkInput]:
    """Finds or plans the rewritten copies of the inputs of a link. Writes no copies.

    `whole` says that the inputs define what the image does under the same names, `first` that this
    is the first link of a build. Raises ScpatchError for an input that cannot be read or is no
    object for ppc64 ELFv2.
    """
    from scpatch.kbuild.functions import sources_of, stale, with_functions
    from scpatch.kbuild.plans import plan_copy

    key, options = settings.key, settings.image_options
    targets = {source: folder / _name(source) for source in sources}
    records = {
        source: RecordFile(folder / f".tmp_{target.name}.json", key)
        for source, target in targets.items()
    }
    known = {source: record.read(NOTHING) for source, record in records.items()}
    files = {source: known[source].sources for source in sources if known[source].holds()}
    if whole and not settings.verify:  # an object alone does not prove what another one shows
        all_files = [files.get(source) or sources_of(source) for source in sources]
        options = with_functions(
            options, all_files, RecordFile(folder / ".tmp_functions.json", key)
        )
    inputs = []
    for source, target in targets.items():
        entry, planned, changed = known[source], None, bool(known[source].copies)
        is_stale = bool(stale(entry.callees, options.image_functions))
        if source not in files or is_stale or (first and entry.refused):
            planned = plan_copy(source, target, options, entry)
            changed = planned is not None and planned.changed
        path = str(target) if changed else source
        inputs.append(LinkInput(source, path, planned, records[source]))
    return inputs


def make(entry: LinkInput, settings: Settings) -> None:
    """Writes a planned copy and then its record, so that no record is ever without its copy.

    Raises RefusedError if call sites were refused, unless they are allowed, and SCP304 for a copy
    that is to be proven and is not.
    """
    if entry.planned is None:
        return
    from scpatch.rewriter import write

    plan, known = entry.planned.plan, entry.planned.known
    entry.record.remove()
    copies = known.copies
    if entry.path != entry.source:
        check = settings.check_of(settings.image_options)
        write([plan], allow_refused=settings.warn_only, sync=settings.sync, check=check)
        copies = {**copies, **identities(str(output.target) for output in plan.outputs)}
        _remove_others(Path(entry.path + ".members"), set(map(os.path.basename, copies)))
    entry.record.write(known._replace(copies=copies))


def _name(source: str) -> str:
    """A file name for the copy. Two inputs of one link never share it."""
    stem, suffix = os.path.splitext(os.path.basename(source))
    number = digest(os.fsencode(os.path.normpath(source)))
    return f"{stem.lstrip('.')[:100]}.{number}{suffix[:20]}"


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Removes copies of former members and of those without call sites now, and what a killed run
    has left."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in wanted:
            with contextlib.suppress(OSError):
                path.unlink()
