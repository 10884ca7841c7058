"""Plans the copy of an input of a link; of a thin archive, only the members that have changed.

vmlinux.a has a member for each object of the kernel. If one is compiled again, only its copy is
made again, and the archive of copies, which is small.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from scpatch.ar.headers import Archive, read_archive
from scpatch.elf.reader import ElfFile
from scpatch.files.inputs import Input, is_archive, is_object, open_input
from scpatch.kbuild.functions import Callees, path_of, sources_in, stale
from scpatch.kbuild.record import Identities, Known, identities, identity
from scpatch.rewriter import FilePlan, Options, plan_file, plan_object
from scpatch.rewriter.thin import files_of, plan_thin
from scpatch.rewriter.thin_files import EarlierResult
from scpatch.sites.model import Scan


class Planned(NamedTuple):
    plan: FilePlan
    known: Known
    """What is known after the plan's outputs are written; `copies` lacks these."""
    changed: bool
    """Whether the link is to use a copy."""
    skipped: int = 0
    """How many files of a thin archive were not read, because an earlier run has rewritten them."""


def plan_copy(name: str, target: Path, options: Options, known: Known) -> Planned | None:
    """What is to be written for the input `name`. None if it is neither an object nor an archive:
    linkers also take scripts.

    Raises ScpatchError for an input that cannot be read, is not for ppc64, or has no machine code
    yet.
    """
    with open_input(Path(name)) as source:
        if is_archive(source.data):
            archive = read_archive(source.data, name)
            if archive.thin:
                return _plan_thin(source, archive, target, options, known)
        elif not is_object(source.data, name):
            return None
    sources = identities([name])
    seen = _Seen(options)
    plan = plan_file(Path(name), options, target, observe=seen.see)
    return Planned(plan, Known(sources, {}, {}, bool(plan.refused), seen.callees), plan.changed)


class _Seen:
    """Takes the callees of each object with call sites before it is planned."""

    def __init__(self, options: Options) -> None:
        self._functions = options.image_functions
        self.callees: dict[str, list[str]] = {}

    def see(self, elf: ElfFile, scan: Scan) -> None:
        if scan.sites:
            self.callees[elf.name] = [*Callees.of(elf, self._functions)]


def _plan_thin(
    source: Input, archive: Archive, target: Path, options: Options, known: Known
) -> Planned:
    # Before anything is read: a file that changes meanwhile then has another identity.
    sources = sources_in(archive)
    earlier = _earlier(archive, sources, known, stale(known.callees, options.image_functions))
    seen = _Seen(options)
    plan_member = partial(plan_object, options=options, observe=seen.see)
    plan = plan_thin(source, archive, plan_member, target, earlier)
    copies = {result.copy: known.copies[result.copy] for result in earlier.values() if result.copy}
    members = _members(archive, plan, earlier)
    callees = _callees(archive, earlier, known, seen.callees)
    new = Known(sources, copies, members, bool(plan.refused), callees)
    return Planned(plan, new, bool(copies) or plan.changed, len(earlier))


def _earlier(
    archive: Archive, sources: Identities, known: Known, changed: Collection[str]
) -> dict[str, EarlierResult]:
    """The files that have not changed since an earlier run, nor have their copies, nor what the
    image defines of their callees."""
    earlier: dict[str, EarlierResult] = {}
    for (path, nested), members in files_of(archive).items():
        name = path_of(archive, members[0].name)
        now = sources[name]
        copy = known.members.get(path)
        if nested or copy is None or not now or known.sources.get(name) != now or path in changed:
            continue
        if not copy:
            earlier[path] = EarlierResult("", now[2])
        elif (copied := identity(copy)) and known.copies.get(copy) == copied:
            earlier[path] = EarlierResult(copy, copied[2])
    return earlier


def _callees(
    archive: Archive,
    earlier: Collection[str],
    known: Known,
    seen: Mapping[str, list[str]],
) -> dict[str, list[str]]:
    """`Known.callees` after the plan's outputs are written."""
    paths = {
        f"{archive.name}({members[0].label})": path
        for (path, nested), members in files_of(archive).items()
        if not nested
    }
    kept = {path: pair for path, pair in known.callees.items() if path in earlier}
    return kept | {paths.get(name, name): pair for name, pair in seen.items()}


def _members(
    archive: Archive, plan: FilePlan, earlier: Mapping[str, EarlierResult]
) -> dict[str, str]:
    """`Known.members` after the plan's outputs are written."""
    made = {str(output.source): str(output.target) for output in plan.outputs}
    refused = {entry.name for entry in plan.objects if entry.plan.refused}
    return {
        path: earlier[path].copy if path in earlier else made.get(path, "")
        for (path, nested), members in files_of(archive).items()
        if not nested and f"{archive.name}({members[0].label})" not in refused
    }
