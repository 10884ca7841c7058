"""Lays `ar` archives out anew when members grow or, in a thin one, lie elsewhere; pure.

A symbol table tells which member defines a symbol. Its offsets follow the members, its names stay
as they are. A symbol that is added to a member gets no entry: it is hidden and only its own object
refers to it, so that no linker ever looks for the member that has it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from scpatch.ar.headers import (
    HEADER_SIZE,
    MAGIC,
    NAME_SIZE,
    SIZE_FIELD,
    TERMINATOR,
    Archive,
    Kind,
    Member,
    damaged,
    even,
)
from scpatch.elf.encoding import BIG, LITTLE
from scpatch.elf.layout import Copy, Layout
from scpatch.errors import ScpatchError

_WORDS = {
    Kind.SYMBOLS: (BIG, "I", 4, 1),
    Kind.SYMBOLS64: (BIG, "Q", 8, 1),
    # In the byte order of the machine that the objects are for.
    Kind.RANLIB: (LITTLE, "I", 4, 2),
    Kind.RANLIB64: (LITTLE, "Q", 8, 2),
}
"""Symbol tables: byte order, type and size of a word, and how many words an entry has. The entry's
last word is the offset of a member's header. Before the entries of `/` comes their number, before
those of `__.SYMDEF` their size in bytes."""


def moved_headers(archive: Archive, changed: Mapping[int, Layout]) -> dict[int, int]:
    """Where each header of a regular archive goes: old file offset -> new file offset.

    `changed` is that of `lay_out_members`.
    """
    moved: dict[int, int] = {}
    target = len(MAGIC)
    for entry in archive.entries:
        moved[entry.header] = target
        layout = changed.get(entry.header)
        size = entry.size if layout is None else layout.size
        target = even(target + HEADER_SIZE + entry.prefix + size)
    return moved


def lay_out_members(archive: Archive, changed: Mapping[int, Layout]) -> Layout:
    """The new file for a regular archive; headers keep everything but the size.

    `changed` has the new layouts of members, counted from the start of the content, by the file
    offset of the member's header. Raises SCP108 for a symbol table that names no member, SCP110
    where a size or an offset has no room in its field.
    """
    moved = moved_headers(archive, changed)
    copies: list[Copy] = []
    writes = list(_symbol_tables(archive, moved))
    kept, target = 0, 0
    for entry in archive.members:
        layout = changed.get(entry.header)
        if layout is None:
            continue
        start = target + entry.content - kept
        copies.append(Copy(kept, target, entry.content - kept))
        inside = shifted(layout, entry.content)
        copies += [Copy(one.source, start + one.target, one.size) for one in inside.copies]
        writes += [(start + offset, data) for offset, data in inside.writes]
        size = _size_field(archive, entry, entry.prefix + layout.size)
        writes.append((moved[entry.header] + SIZE_FIELD, size))
        target = even(start + layout.size)
        if target != start + layout.size:
            writes.append((target - 1, b"\n"))
        # Behind the last member the padding may be missing.
        kept = min(even(entry.content + entry.size), len(archive.data))
    rest = len(archive.data) - kept
    return Layout(target + rest, (*copies, Copy(kept, target, rest)), tuple(writes))


def shifted(layout: Layout, base: int) -> Layout:
    """The layout of a member's content, with `base` in the archive as its start."""
    copies = tuple(Copy(base + one.source, one.target, one.size) for one in layout.copies)
    return Layout(layout.size, copies, layout.writes)


class Place(NamedTuple):
    """Where a thin archive's member is to lie, and its size in bytes."""

    name: str
    origin: int | None
    size: int


def lay_out_thin(archive: Archive, places: Mapping[int, Place]) -> Layout | None:
    """The new file for a thin archive, None where it is the old one.

    `places` has all members, by the file offset of their headers. As long as no name changes, the
    headers are changed in place. Raises SCP108 and SCP110 as `lay_out_members` does.
    """
    members = list(archive.members)
    if any(member.name != places[member.header].name for member in members):
        return _with_new_names(archive, places)
    writes = []
    for member in members:
        place = places[member.header]
        if place.size != member.size:
            writes.append((member.header + SIZE_FIELD, _size_field(archive, member, place.size)))
        if place.origin != member.origin:
            raw = bytes(archive.data[member.header : member.header + NAME_SIZE])
            start = int(raw[1 : raw.index(b":")])
            field = _name_field(archive, member, start, place.origin)
            writes.append((member.header, field))
    if not writes:
        return None
    size = len(archive.data)
    return Layout(size, (Copy(0, 0, size),), tuple(writes))


def _with_new_names(archive: Archive, places: Mapping[int, Place]) -> Layout:
    """A thin archive with a table of long names of its own, in the order that `ar` writes."""
    tables = [entry for entry in archive.entries if entry.kind in _WORDS]
    names = _Names()
    starts = {member.header: names.add(places[member.header].name) for member in archive.members}
    copies = [Copy(0, 0, len(MAGIC))]
    moved: dict[int, int] = {}
    target = len(MAGIC)
    for table in tables:
        size = even(HEADER_SIZE + table.prefix + table.size)
        moved[table.header] = target
        copies.append(Copy(table.header, target, min(size, len(archive.data) - table.header)))
        target += size
    new = bytearray(names.member(archive))
    for member in archive.members:
        place = places[member.header]
        moved[member.header] = target + len(new)
        old = bytes(archive.data[member.header : member.header + HEADER_SIZE])
        new += _name_field(archive, member, starts[member.header], place.origin)
        new += old[NAME_SIZE:SIZE_FIELD] + _size_field(archive, member, place.size) + TERMINATOR
    writes = (*_symbol_tables(archive, moved), (target, bytes(new)))
    return Layout(target + len(new), tuple(copies), writes)


class _Names:
    """The member `//`: names, each with a slash and a line feed behind it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._starts: dict[str, int] = {}

    def add(self, name: str) -> int:
        """Returns where the name starts in the table."""
        if name not in self._starts:
            if "\n" in name:
                raise ScpatchError(
                    "SCP110",
                    "cannot write: a line break in a name ends it in an archive",
                    file=name,
                )
            self._starts[name] = len(self._data)
            self._data += os.fsencode(name) + b"/\n"
        return self._starts[name]

    def member(self, archive: Archive) -> bytes:
        """The table with its header."""
        data = bytes(self._data) + b"\n" * (len(self._data) % 2)
        size = str(len(data)).encode()
        if len(size) > 10:
            raise _no_room(archive, "the table of long names")
        return b"//".ljust(SIZE_FIELD) + size.ljust(10) + TERMINATOR + data


def _symbol_tables(archive: Archive, moved: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
    """The writes that make the symbol tables name the moved headers. Raises SCP108, SCP110."""
    for table in archive.entries:
        if table.kind not in _WORDS:
            continue
        encoding, word, size, words = _WORDS[table.kind]
        data = archive.content(table)
        if len(data) < size:
            raise damaged(archive.name, f"the symbol table {table.name} has no room for its count")
        count = encoding.number(data[:size])
        if table.kind in (Kind.RANLIB, Kind.RANLIB64):
            count //= size * words
        if size * (1 + count * words) > len(data):
            raise damaged(
                archive.name,
                f"the symbol table {table.name} has {count} entries in {len(data)} bytes",
            )
        fields = list(encoding.column(data[size : size * (1 + count * words)], word))
        fields[words - 1 :: words] = _moved(archive, moved, fields[words - 1 :: words])
        try:
            new = encoding.pack_all(word, fields)
        except struct.error:
            raise _no_room(archive, f"a member's offset in the symbol table {table.name}") from None
        yield moved[table.header] + table.content - table.header + size, new


def _moved(archive: Archive, moved: Mapping[int, int], offsets: Iterable[int]) -> list[int]:
    try:
        return [moved[offset] for offset in offsets]
    except KeyError as missing:
        raise damaged(
            archive.name,
            f"the symbol table names the offset {missing.args[0]:#x}, where no member starts",
        ) from None


def _size_field(archive: Archive, member: Member, size: int) -> bytes:
    digits = str(size).encode()
    if len(digits) > 10:
        raise _no_room(archive, f"the size of {member.label}")
    return digits.ljust(10)


def _name_field(archive: Archive, member: Member, start: int, origin: int | None) -> bytes:
    field = f"/{start}" if origin is None else f"/{start}:{origin}"
    if len(field) > NAME_SIZE:
        raise _no_room(archive, f"the offset of {member.label}")
    return field.encode().ljust(NAME_SIZE)


def _no_room(archive: Archive, what: str) -> ScpatchError:
    return ScpatchError(
        "SCP110",
        f"cannot write: {what} has no room in its field",
        file=archive.name,
        hint="split the archive, or let `ar` make it with a 64-bit symbol table (/SYM64/)",
    )
