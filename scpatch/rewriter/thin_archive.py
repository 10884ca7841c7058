"""Plans the rewriting of thin archives, whose members are files of their own.

In place, members are rewritten where they lie, and the sizes in the archive's headers follow. With
an output, rewritten members become copies in a directory beside the new archive; the others stay
where they are, and the new archive names them from where it lies. A caller that knows what an
earlier run made of some of them has only the others planned.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from scpatch.ar.headers import Archive, Member, damaged, is_regular, read_archive
from scpatch.ar.layout import Place, lay_out_members, lay_out_thin, moved_headers, shifted
from scpatch.elf.layout import Layout
from scpatch.errors import ScpatchError
from scpatch.files.inputs import IN_MEMORY, Input, is_object, open_input
from scpatch.rewriter import FilePlan, ObjectPlan, Options, Output, outputs_of, plan_object
from scpatch.rewriter.archive import plan_members

_LONGEST_STEM = 100
"""Characters of a member's own name that go into the name of its copy."""


class Kept(NamedTuple):
    """What an earlier run made of a file, for the same archive to be written."""

    copy: str
    """The path of its rewritten copy; empty where nothing had to be rewritten."""
    size: int
    """The size in bytes: of the copy or, where there is none, of the file."""


class _Content(NamedTuple):
    """What a member holds. Members that name the same file share it."""

    name: str
    """The member's own name, without directories."""
    path: Path
    """The file that it lies in."""
    identity: tuple[int, ...]
    base: int
    """File offset of the content: 0, but in a regular archive."""
    layout: Layout | None
    """The new layout, counted from `base`; None where nothing changes."""
    size: int
    """The new size in bytes."""
    origin: int | None = None
    """In a regular archive: the new offset of the member's header."""
    copy: str = ""
    """The path of a copy that is there already."""


class _File(NamedTuple):
    """A file that members lie in."""

    objects: Sequence[ObjectPlan]
    contents: Mapping[int, _Content]
    """By the file offsets of the headers in the thin archive."""
    outputs: Sequence[Output]
    """What changes the file where it lies."""


def plan_thin(
    source: Input,
    archive: Archive,
    options: Options,
    target: Path | None,
    kept: Mapping[str, Kept] = MappingProxyType({}),
) -> FilePlan:
    """What `rewrite` would do to a thin archive and its members.

    `kept` has files, by their paths as `files_of` gives them, that are not looked at again; it is
    for a new archive at `target` only. The plan has no objects for them.

    Raises SCP108 where a file is not what the archive says, SCP109 where it cannot be read or the
    archive is bytes, and what `plan_object` raises.
    """
    if source.path is IN_MEMORY:
        raise ScpatchError(
            "SCP109",
            "cannot read: a thin archive has its members in other files",
            file=archive.name,
            hint="give the path of the archive instead of its bytes",
        )
    folders = _Folders(source.path.parent)
    files: list[_File] = []
    for (path, nested), members in _files(archive, folders).items():
        if nested:
            files.append(_plan_nested(archive, Path(path), members, options))
        elif path in kept:
            files.append(_keep(archive, Path(path), members, kept[path]))
        else:
            files.append(_plan_file(archive, Path(path), members, options))
    objects = tuple(one for file in files for one in file.objects)
    contents = {header: one for file in files for header, one in file.contents.items()}
    if target is None:
        outputs = [one for file in files for one in file.outputs]
        places = {
            member.header: Place(member.name, one.origin, one.size)
            for member in archive.members
            for one in (contents[member.header],)
        }
    else:
        outputs, places = _elsewhere(archive, contents, folders, target)
    # Last, so that the archive never names a file that is not there yet.
    outputs += outputs_of(source, lay_out_thin(archive, places), target)
    return FilePlan(source.path, objects, tuple(outputs))


def files_of(archive: Archive) -> dict[tuple[str, bool], list[Member]]:
    """The members of a thin archive by the path of the file that they lie in, and by whether that
    is a regular archive. One file has one path, whatever the members call it."""
    return _files(archive, _Folders(Path(archive.name).parent))


def _files(archive: Archive, folders: _Folders) -> dict[tuple[str, bool], list[Member]]:
    files: dict[tuple[str, bool], list[Member]] = {}
    for member in archive.members:
        key = folders.path(member.name), member.origin is not None
        files.setdefault(key, []).append(member)
    return files


def _keep(archive: Archive, path: Path, members: Sequence[Member], kept: Kept) -> _File:
    """A file that needs no plan, because an earlier run had one."""
    size = _size(path, f"{archive.name}({members[0].label})")
    for member in members:
        _check_size(archive, member, size)
    content = _Content(path.name, path, (), 0, None, kept.size, copy=kept.copy)
    return _File((), {member.header: content for member in members}, ())


def _plan_file(archive: Archive, path: Path, members: Sequence[Member], options: Options) -> _File:
    """The plan of a file that is a member as a whole."""
    name = f"{archive.name}({members[0].label})"
    size = _size(path, name)
    for member in members:
        _check_size(archive, member, size)
    if size == 0:
        empty = _Content(path.name, path, (), 0, None, 0)
        return _File((), {member.header: empty for member in members}, ())
    objects, layout = [], None
    with _opened(path, name) as source:
        if is_object(source.data, name):
            one, layout = plan_object(source.data, name, options)
            objects.append(one)
        outputs = list(outputs_of(source, layout, None))
        size = size if layout is None else layout.size
        content = _Content(path.name, path, source.identity, 0, layout, size)
    return _File(objects, {member.header: content for member in members}, outputs)


def _plan_nested(
    archive: Archive, path: Path, members: Sequence[Member], options: Options
) -> _File:
    """The plan of a regular archive, some of whose members were added to the thin one."""
    name = f"{archive.name}({members[0].name})"
    with _opened(path, name) as source:
        if not is_regular(source.data):
            raise damaged(name, "it is no regular archive, but the thin archive names its members")
        inner = read_archive(source.data, name)
        found = {one.header: one for one in inner.members}
        wanted: dict[int, Member] = {}
        for member in members:
            if member.origin not in found:
                raise damaged(name, f"it has no member at {member.origin:#x} any more")
            wanted[member.header] = found[member.origin]
            _check_size(archive, member, wanted[member.header].size)
        once = {one.header: one for one in wanted.values()}
        objects, changed = plan_members(inner, once.values(), options)
        layout = lay_out_members(inner, changed) if changed else None
        moved = moved_headers(inner, changed)
        contents = {
            header: _Content(
                os.path.basename(one.name),
                path,
                source.identity,
                one.content,
                changed.get(one.header),
                changed[one.header].size if one.header in changed else one.size,
                moved[one.header],
            )
            for header, one in wanted.items()
        }
        return _File(objects, contents, list(outputs_of(source, layout, None)))


def _elsewhere(
    archive: Archive, contents: Mapping[int, _Content], folders: _Folders, target: Path
) -> tuple[list[Output], dict[int, Place]]:
    """The copies of the members that change, and what a new archive at `target` names."""
    new = Path(os.path.realpath(target))
    folder = new.with_name(new.name + ".members")
    copies: dict[tuple[Path, int], Output] = {}
    taken = {os.path.basename(one.copy) for one in contents.values()}
    places: dict[int, Place] = {}
    for member in archive.members:
        content = contents[member.header]
        if content.copy:
            name = f"{folder.name}/{os.path.basename(content.copy)}"
            places[member.header] = Place(name, None, content.size)
            continue
        if content.layout is None:
            name = folders.from_folder(member.name, new.parent)
            places[member.header] = Place(name, member.origin, content.size)
            continue
        key = content.path, content.base
        if key not in copies:
            copy = folder / _copy_name(member, content, taken)
            layout = shifted(content.layout, content.base)
            copies[key] = Output(content.path, copy, layout, content.identity, folder=True)
        name = f"{folder.name}/{copies[key].target.name}"
        places[member.header] = Place(name, None, content.size)
    return list(copies.values()), places


def _copy_name(member: Member, content: _Content, taken: set[str]) -> str:
    """A file name for a copy: the member's own with a digest of its whole name in the archive, so
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
    """Where the members of a thin archive lie. Knows the directories that it has seen."""

    def __init__(self, start: Path) -> None:
        self._start = start
        """The archive's directory."""
        self._real: dict[str, str] = {}

    def _folder(self, name: str) -> str:
        """The directory that a member's name is in, symbolic links resolved."""
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


def _size(path: Path, name: str) -> int:
    """The size of a member's file in bytes."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScpatchError(
            "SCP109",
            f"cannot read {path}: {reason}",
            file=name,
            hint="a thin archive names its members by path: put the file back, or make the archive "
            "again with `ar`",
        ) from error


def _check_size(archive: Archive, member: Member, size: int) -> None:
    if member.size != size:
        raise ScpatchError(
            "SCP108",
            f"the member has {size} bytes, the archive says {member.size}",
            file=f"{archive.name}({member.label})",
            hint="it changed after the thin archive was made: make the archive again with `ar`",
        )


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[Input]:
    """Maps a member's file; errors give the name that it has in the archive."""
    try:
        with open_input(path) as source:
            yield source
    except ScpatchError as error:
        if error.file != str(path):
            raise
        raise ScpatchError(error.code, f"{error.message} ({path})", file=name) from error
