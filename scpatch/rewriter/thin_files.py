"""Plans the files of a thin archive: each is a member, or a regular archive that has members."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scpatch.ar.headers import Archive, Member, damaged, is_regular, read_archive
from scpatch.ar.layout import moved_headers, shifted
from scpatch.errors import ScpatchError
from scpatch.files.inputs import Input, is_object, open_input
from scpatch.rewriter.model import ObjectPlan, Output, outputs_of
from scpatch.rewriter.object import PlanObject, plan_members


class EarlierResult(NamedTuple):
    """What an earlier run made of a file, for the same archive to be written."""

    copy: str
    """The path of its rewritten copy; empty if nothing had to be rewritten."""
    size: int
    """The size in bytes: of the copy or, if there is none, of the file."""


class Content(NamedTuple):
    """What a member is to hold. Members that name the same file share it."""

    size: int
    """Bytes."""
    origin: int | None = None
    """In a regular archive: the new file offset of the member's header, if the archive is written
    in place. Other members of it may grow."""
    name: str = ""
    """The file name of the copy that an earlier run made; for a changed member, its name without
    directories."""
    copy: Output | None = None
    """For a changed member: a copy of it, from its file; without the target's name."""


class PlannedFile(NamedTuple):
    """What happens to a file with members in it."""

    objects: Sequence[ObjectPlan]
    contents: Mapping[int, Content]
    """By the file offsets of the members' headers in the thin archive."""
    outputs: Sequence[Output]
    """What changes the file in place."""


def take_earlier(
    archive: Archive, path: Path, members: Sequence[Member], earlier: EarlierResult
) -> PlannedFile:
    """A file that needs no plan, because an earlier run has dealt with it."""
    _check_size(archive, members, path)
    content = Content(earlier.size, name=os.path.basename(earlier.copy))
    return PlannedFile((), {member.header: content for member in members}, ())


def plan_whole(
    archive: Archive, path: Path, members: Sequence[Member], plan_member: PlanObject
) -> PlannedFile:
    """The plan of a file that is a member as a whole."""
    name = f"{archive.name}({members[0].label})"
    size = _check_size(archive, members, path)
    content = Content(size)
    if not size:
        return PlannedFile((), {member.header: content for member in members}, ())
    objects, layout = [], None
    with _opened(path, name) as source:
        if is_object(source.data, name):
            plan, layout = plan_member(source.data, name)
            objects.append(plan)
        if layout is not None:
            copy = Output(path, path, layout, source.identity, folder=True)
            content = Content(layout.size, None, path.name, copy)
        outputs = list(outputs_of(source, layout, None))
    return PlannedFile(objects, {member.header: content for member in members}, outputs)


def plan_nested(
    archive: Archive, path: Path, members: Sequence[Member], plan_member: PlanObject
) -> PlannedFile:
    """The plan of a regular archive, some of whose members were added to the thin one."""
    name = f"{archive.name}({members[0].name})"
    with _opened(path, name) as source:
        if not is_regular(source.data):
            raise damaged(name, "it is no regular archive, but the thin archive names its members")
        regular = read_archive(source.data, name)
        by_header = {member.header: member for member in regular.members}
        inner: dict[int, Member] = {}
        for member in members:
            if member.origin not in by_header:
                raise damaged(name, f"it has no member at {member.origin:#x} any more")
            inner[member.header] = by_header[member.origin]
            _compare_size(archive, member, inner[member.header].size)
        distinct = {member.header: member for member in inner.values()}
        planned = plan_members(regular, distinct.values(), plan_member)
        moved = moved_headers(regular, planned.changed)
        contents: dict[int, Content] = {}
        for header, member in inner.items():
            contents[header] = Content(member.size, moved[member.header])
            if (layout := planned.changed.get(member.header)) is not None:
                moved_layout = shifted(layout, member.content)
                copy = Output(path, path, moved_layout, source.identity, folder=True)
                name = os.path.basename(member.name)
                contents[header] = Content(layout.size, moved[member.header], name, copy)
        outputs = list(outputs_of(source, planned.layout, None))
        return PlannedFile(planned.objects, contents, outputs)


def _check_size(archive: Archive, members: Sequence[Member], path: Path) -> int:
    """The size of a file in bytes. Raises SCP109 if it is not there, and SCP108 if a member has
    another size."""
    try:
        size = os.stat(path).st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScpatchError(
            "SCP109",
            f"cannot read {path}: {reason}",
            file=f"{archive.name}({members[0].label})",
            hint="a thin archive names its members by path: put the file back, or make the archive "
            "again with `ar`",
        ) from error
    for member in members:
        _compare_size(archive, member, size)
    return size


def _compare_size(archive: Archive, member: Member, size: int) -> None:
    if member.size != size:
        raise ScpatchError(
            "SCP108",
            f"the member has {size} bytes, the archive says {member.size}",
            file=f"{archive.name}({member.label})",
            hint="it changed after the thin archive was made: make the archive again with `ar`",
        )


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[Input]:
    """Opens a member's file; errors give the name that it has in the archive."""
    try:
        with open_input(path) as source:
            yield source
    except ScpatchError as error:
        if error.file != str(path):
            raise
        raise ScpatchError(error.code, f"{error.message} ({path})", file=name) from error
