"""Plans the copy of an input of a link; of a thin archive, only what is not known already.

vmlinux.a has a member for each object of the kernel. When one is compiled again, its copy alone has
to be made again, and the archive of copies, which is small.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from scpatch.ar.headers import Archive, read_archive
from scpatch.files.inputs import Input, is_archive, is_object, open_input
from scpatch.kbuild.record import Identities, Known, identities, identity
from scpatch.rewriter import FilePlan, Options, plan_file
from scpatch.rewriter.thin import files_of, plan_thin
from scpatch.rewriter.thin_files import EarlierResult


class Planned(NamedTuple):
    plan: FilePlan
    known: Known
    """What there is to know once the plan's outputs are written; `copies` lacks these."""
    changed: bool
    """Whether the link is to use a copy."""
    kept: int = 0
    """How many files of a thin archive were not looked at, because they are known."""


def plan_copy(name: str, target: Path, options: Options, known: Known) -> Planned | None:
    """What is to be written for the input `name`; None where it is no object and no archive:
    linkers also take scripts.

    Raises ScpatchError for an input that cannot be read, is not for ppc64le, or has no machine code
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
    plan = plan_file(Path(name), options, target)
    changed = any(one.plan.edits for one in plan.objects)
    return Planned(plan, Known(sources, {}, {}, bool(plan.refused)), changed)


def sources_of(name: str) -> Identities:
    """The files that an archive is made of, as they are now: itself and, where it is thin, its
    members."""
    with open_input(Path(name)) as source:
        return _sources(read_archive(source.data, name))


def _sources(archive: Archive) -> Identities:
    members = archive.members if archive.thin else ()
    return identities([archive.name, *(_path(archive, one.name) for one in members)])


def _path(archive: Archive, member: str) -> str:
    return os.path.join(os.path.dirname(archive.name), member)


def _plan_thin(
    source: Input, archive: Archive, target: Path, options: Options, known: Known
) -> Planned:
    # Before anything is read: a file that changes meanwhile then has another identity.
    sources = _sources(archive)
    kept = _kept(archive, sources, known)
    plan = plan_thin(source, archive, options, target, kept)
    old = [one.copy for one in kept.values() if one.copy]
    changed = bool(old) or any(one.plan.edits for one in plan.objects)
    copies = {path: known.copies[path] for path in old}
    new = Known(sources, copies, _members(archive, plan, kept), bool(plan.refused))
    return Planned(plan, new, changed, len(kept))


def _kept(archive: Archive, sources: Identities, known: Known) -> dict[str, EarlierResult]:
    """The files of which it is known what becomes of them."""
    kept: dict[str, EarlierResult] = {}
    for (path, nested), members in files_of(archive).items():
        name = _path(archive, members[0].name)
        now = sources[name]
        copy = known.members.get(path)
        if nested or copy is None or not now or known.sources.get(name) != now:
            continue
        if not copy:
            kept[path] = EarlierResult("", now[2])
        elif (there := identity(copy)) and known.copies.get(copy) == there:
            kept[path] = EarlierResult(copy, there[2])
    return kept


def _members(archive: Archive, plan: FilePlan, kept: Mapping[str, EarlierResult]) -> dict[str, str]:
    """The copies by the files that are members as a whole, but for those with refused sites."""
    made = {str(one.source): str(one.target) for one in plan.outputs}
    refused = {one.name for one in plan.objects if one.plan.refused}
    return {
        path: kept[path].copy if path in kept else made.get(path, "")
        for (path, nested), members in files_of(archive).items()
        if not nested and f"{archive.name}({members[0].label})" not in refused
    }
