"""The objects in a file: the file itself, or the members of an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scpatch.ar.headers import Archive, Member, damaged, read_archive
from scpatch.errors import ScpatchError
from scpatch.files.inputs import is_archive, is_object, open_input


@contextmanager
def open_objects(path: Path | bytes) -> Iterator[dict[str, memoryview]]:
    """Label -> content of the objects in a file, as long as the context lasts.

    The label of a file that is not an archive is empty. Members that are not ELF files are left
    out.
    Raises ScpatchError SCP108 or SCP109.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_input(path, unpacked=True))
        if not is_archive(source.data):
            yield {"": source.data}
            return
        archive = read_archive(source.data, str(source.path))
        objects = {}
        for member in archive.members:
            content = _content(archive, member, source.path, stack)
            if is_object(content, label(source.path, member.label)):
                objects[member.label] = content
        yield objects


def paths_of(path: Path) -> list[str]:
    """The files that a file consists of: itself and, if it is a thin archive, its members.

    Raises ScpatchError SCP108 or SCP109.
    """
    with open_input(path, unpacked=True) as source:
        if not is_archive(source.data):
            return [str(path)]
        archive = read_archive(source.data, str(path))
        members = archive.members if archive.thin else ()
        folder = os.path.dirname(path)
        return [str(path), *(os.path.join(folder, member.name) for member in members)]


def _content(archive: Archive, member: Member, path: Path, stack: ExitStack) -> memoryview:
    if not archive.thin:
        return archive.content(member)
    if member.size == 0:
        return memoryview(b"")
    file = Path(os.path.join(path.parent, member.name))
    data = stack.enter_context(open_input(file)).data
    if member.origin is None:
        return data
    regular = read_archive(data, str(file))
    for candidate in regular.members:
        if candidate.header == member.origin:
            return regular.content(candidate)
    raise damaged(archive.name, f"{member.name} has no member at {member.origin:#x} any more")


def label(path: Path, member: str) -> str:
    """What messages call an object: `FILE`, or `ARCHIVE(MEMBER)`."""
    return f"{path}({member})" if member else str(path)


def pair(
    before: dict[str, memoryview], after: dict[str, memoryview], file: Path
) -> list[tuple[str, memoryview, memoryview]]:
    """The objects that both files hold, by label. Raises SCP113 if one lacks a member."""
    for objects, others, what in ((before, after, "lacks"), (after, before, "has in addition")):
        missing = [name for name in objects if name not in others]
        if missing:
            raise ScpatchError(
                "SCP113", f"{what} the member {missing[0] or 'that is the object'}", file=str(file)
            )
    return [(name, before[name], after[name]) for name in before]
