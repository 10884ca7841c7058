"""Plans thin archives, whose members are files of their own.

In place, members are rewritten where they are, and the sizes in the archive's headers follow. With
an output, rewritten members become copies in a directory beside the new archive; the others stay
where they are, and the new archive names them from its own directory. A caller that has copies of
an earlier run has only the other members planned.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType

from scpatch.ar.headers import Archive, Member
from scpatch.ar.layout import ThinMember, lay_out_thin
from scpatch.errors import ScpatchError
from scpatch.files.inputs import Input
from scpatch.rewriter.model import FilePlan, Output, outputs_of
from scpatch.rewriter.object import PlanObject
from scpatch.rewriter.thin_files import (
    Content,
    EarlierResult,
    plan_nested,
    plan_whole,
    take_earlier,
)

_LONGEST_STEM = 100
"""Characters of a member's name that go into the name of its copy."""

Files = dict[tuple[str, bool], list[Member]]
"""The members of a thin archive by the path of their file, and by whether that is a regular
archive. A file has one path, whatever the members call it."""


def plan_thin(
    source: Input,
    archive: Archive,
    plan_member: PlanObject,
    target: Path | None,
    earlier: Mapping[str, EarlierResult] = MappingProxyType({}),
) -> FilePlan:
    """What `rewrite` would do to a thin archive and its members.

    `earlier` has what an earlier run made of files, by the paths of `files_of`: these files are not
    looked at again, and the plan has no objects for them. It is for a new archive at `target` only.

    Raises SCP108 if a file is not what the archive says, SCP109 if it cannot be read or the
    archive is bytes, and what `plan_object` raises.
    """
    if source.descriptor < 0:
        raise ScpatchError(
            "SCP109",
            "cannot read: a thin archive has its members in other files",
            file=archive.name,
            hint="give the path of the archive instead of its bytes",
        )
    folders = _Folders(source.path.parent)
    files = [
        plan_nested(archive, Path(path), members, plan_member)
        if nested
        else take_earlier(archive, Path(path), members, earlier[path])
        if path in earlier
        else plan_whole(archive, Path(path), members, plan_member)
        for (path, nested), members in _files(archive, folders).items()
    ]
    objects = tuple(plan for file in files for plan in file.objects)
    contents = {header: content for file in files for header, content in file.contents.items()}
    if target is None:
        outputs = [output for file in files for output in file.outputs]
        places = {
            member.header: ThinMember(
                member.name, contents[member.header].origin, contents[member.header].size
            )
            for member in archive.members
        }
    else:
        outputs, places = _copy_changed(archive, contents, folders, target)
    # Last, so that the archive never names a file that is not there yet.
    outputs += outputs_of(source, lay_out_thin(archive, places), target)
    return FilePlan(source.path, objects, tuple(outputs))


def files_of(archive: Archive) -> Files:
    """The members by file."""
    return _files(archive, _Folders(Path(archive.name).parent))


def _files(archive: Archive, folders: _Folders) -> Files:
    files: Files = {}
    for member in archive.members:
        key = folders.path(member.name), member.origin is not None
        files.setdefault(key, []).append(member)
    return files


def _copy_changed(
    archive: Archive, contents: Mapping[int, Content], folders: _Folders, target: Path
) -> tuple[list[Output], dict[int, ThinMember]]:
    """The copies of the members that change, and what a new archive at `target` names."""
    real = Path(os.path.realpath(target))
    folder = real.with_name(real.name + ".members")
    copies: dict[Content, str] = {}
    taken = {content.name for content in contents.values() if content.copy is None}
    places: dict[int, ThinMember] = {}
    for member in archive.members:
        content = contents[member.header]
        if content.copy is not None and content not in copies:
            copies[content] = _copy_name(member, content, taken)
        if content.copy is not None or content.name:
            name = f"{folder.name}/{copies.get(content, content.name)}"
            places[member.header] = ThinMember(name, None, content.size)
        else:
            name = folders.from_folder(member.name, real.parent)
            places[member.header] = ThinMember(name, member.origin, content.size)
    outputs = [
        content.copy._replace(target=folder / name)
        for content, name in copies.items()
        if content.copy is not None
    ]
    return outputs, places


def _copy_name(member: Member, content: Content, taken: set[str]) -> str:
    """A file name for a copy: the member's name with a digest of its whole name in the archive, so
    that it stays the same when other members come and go."""
    stem, suffix = os.path.splitext(content.name)
    key = os.fsencode(member.name if member.origin is None else f"{member.name}:{member.origin}")
    for size in range(6, 64):
        digest = blake2b(key, digest_size=size).hexdigest()
        name = f"{stem[:_LONGEST_STEM]}.{digest}{suffix[:20]}"
        if name not in taken:
            break
    taken.add(name)
    return name


class _Folders:
    """The directories of a thin archive's members, looked up once each."""

    def __init__(self, start: Path) -> None:
        self._start = start
        """The archive's directory."""
        self._real: dict[str, str] = {}

    def _folder(self, name: str) -> str:
        """The directory of a member's name, symbolic links resolved."""
        head = os.path.dirname(name)
        if head not in self._real:
            self._real[head] = os.path.realpath(os.path.join(self._start, head))
        return self._real[head]

    def path(self, name: str) -> str:
        """The file that a member's name stands for; one file has one path."""
        path = os.path.join(self._folder(name), os.path.basename(name))
        return os.path.realpath(path) if os.path.islink(path) else path

    def from_folder(self, name: str, folder: Path) -> str:
        """A member's name for an archive in `folder`, which has no symbolic links in it."""
        if os.path.isabs(name) or folder == Path(os.path.realpath(self._start)):
            return name
        return os.path.relpath(os.path.join(self._folder(name), os.path.basename(name)), folder)
