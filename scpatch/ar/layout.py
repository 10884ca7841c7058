"""Recomputes the layout of an `ar` archive after members grow or move. No I/O.

A symbol table says which member defines a symbol. Its offsets follow the members, its names stay.
A symbol that is added to a member gets no entry: it is hidden and only its object refers to it, so
that no linker looks for the member that has it.
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
    EntryKind,
    Member,
    damaged,
    even,
)
from scpatch.elf.encoding import BIG, LITTLE, Encoding
from scpatch.elf.layout import CopiedRange, Layout, unchanged
from scpatch.errors import ScpatchError


class _TableForm(NamedTuple):
    """A symbol table: a count, then entries whose last word is the offset of a member's header."""

    encoding: Encoding
    code: str
    """The type of a word, as `struct` has it."""
    word: int
    """Bytes of a word."""
    words: int
    """Words of an entry."""
    counts_bytes: bool
    """Whether the count is the entries' size in bytes, not their number."""


_TABLES = {
    EntryKind.SYMBOLS: _TableForm(BIG, "I", 4, 1, counts_bytes=False),
    EntryKind.SYMBOLS64: _TableForm(BIG, "Q", 8, 1, counts_bytes=False),
    # In the byte order of the machine that the objects are for.
    EntryKind.RANLIB: _TableForm(LITTLE, "I", 4, 2, counts_bytes=True),
    EntryKind.RANLIB64: _TableForm(LITTLE, "Q", 8, 2, counts_bytes=True),
}


def moved_headers(archive: Archive, changed: Mapping[int, Layout]) -> dict[int, int]:
    """The new file offset of each header of a regular archive, by the old one.

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
    """The new file for a regular archive. Of the headers only the sizes change.

    `changed` has the new layouts of members, counted from the start of the content, by the file
    offset of the member's header. Raises SCP108 for a symbol table that names no member, SCP110
    if a size or an offset does not fit its field.
    """
    moved = moved_headers(archive, changed)
    copies: list[CopiedRange] = []
    writes = list(_symbol_tables(archive, moved))
    source, target = 0, 0
    for member in archive.members:
        layout = changed.get(member.header)
        if layout is None:
            continue
        start = target + member.content - source
        copies.append(CopiedRange(source, target, member.content - source))
        for copy in shifted(layout, member.content).copies:
            copies.append(copy._replace(target=start + copy.target))
        writes += [(start + offset, data) for offset, data in layout.writes]
        size = _size_field(archive, member, member.prefix + layout.size)
        writes.append((moved[member.header] + SIZE_FIELD, size))
        target = even(start + layout.size)
        if target != start + layout.size:
            writes.append((target - 1, b"\n"))
        # After the last member the padding may be missing.
        source = min(even(member.content + member.size), len(archive.data))
    rest = len(archive.data) - source
    return Layout(target + rest, (*copies, CopiedRange(source, target, rest)), tuple(writes))


def shifted(layout: Layout, base: int) -> Layout:
    """The layout of a member's content whose source is the archive; it starts at `base` there."""
    copies = tuple(copy._replace(source=base + copy.source) for copy in layout.copies)
    return layout._replace(copies=copies)


class ThinMember(NamedTuple):
    """What a thin archive is to say of a member."""

    name: str
    origin: int | None
    size: int
    """Bytes."""


def lay_out_thin(archive: Archive, members: Mapping[int, ThinMember]) -> Layout | None:
    """The new file for a thin archive; None if it stays as it is.

    `members` has all members, by the file offset of their headers. If no name changes, the headers
    are changed in place. Raises SCP108 and SCP110 as `lay_out_members` does.
    """
    if any(member.name != members[member.header].name for member in archive.members):
        return _with_new_names(archive, members)
    writes = []
    for member in archive.members:
        new = members[member.header]
        if new.size != member.size:
            writes.append((member.header + SIZE_FIELD, _size_field(archive, member, new.size)))
        if new.origin != member.origin:
            raw = bytes(archive.data[member.header : member.header + NAME_SIZE])
            start = int(raw[1 : raw.index(b":")])
            writes.append((member.header, _name_field(archive, member, start, new.origin)))
    return unchanged(len(archive.data))._replace(writes=tuple(writes)) if writes else None


def _with_new_names(archive: Archive, members: Mapping[int, ThinMember]) -> Layout:
    """A thin archive with a new table of long names, in the order that `ar` writes."""
    starts, names = _long_names(archive, [members[m.header].name for m in archive.members])
    copies = [CopiedRange(0, 0, len(MAGIC))]
    moved: dict[int, int] = {}
    target = len(MAGIC)
    for table in archive.entries:
        if table.kind in _TABLES:
            size = even(HEADER_SIZE + table.prefix + table.size)
            moved[table.header] = target
            present = min(size, len(archive.data) - table.header)
            copies.append(CopiedRange(table.header, target, present))
            target += size
    content = bytearray(names)
    for member in archive.members:
        new = members[member.header]
        moved[member.header] = target + len(content)
        old = bytes(archive.data[member.header : member.header + HEADER_SIZE])
        content += _name_field(archive, member, starts[new.name], new.origin)
        content += old[NAME_SIZE:SIZE_FIELD] + _size_field(archive, member, new.size) + TERMINATOR
    writes = (*_symbol_tables(archive, moved), (target, bytes(content)))
    return Layout(target + len(content), tuple(copies), writes)


def _long_names(archive: Archive, names: Iterable[str]) -> tuple[dict[str, int], bytes]:
    """Where each name starts in the member `//`, and that member with its header: names, each
    followed by a slash and a line feed."""
    starts: dict[str, int] = {}
    table = bytearray()
    for name in dict.fromkeys(names):
        if "\n" in name:
            message = "cannot write: a line break in a name ends it in an archive"
            raise ScpatchError("SCP110", message, file=name)
        starts[name] = len(table)
        table += os.fsencode(name) + b"/\n"
    table += b"\n" * (len(table) % 2)
    size = _field(archive, str(len(table)), 10, "the table of long names")
    return starts, b"//".ljust(SIZE_FIELD) + size + TERMINATOR + bytes(table)


def _symbol_tables(archive: Archive, moved: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
    """The writes that make the symbol tables name the moved headers. Raises SCP108, SCP110."""
    for table in archive.entries:
        if table.kind not in _TABLES:
            continue
        form, data = _TABLES[table.kind], archive.content(table)
        if len(data) < form.word:
            raise damaged(archive.name, f"the symbol table {table.name} has no room for its count")
        count = form.encoding.number(data[: form.word])
        if form.counts_bytes:
            count //= form.word * form.words
        end = form.word * (1 + count * form.words)
        if end > len(data):
            raise damaged(
                archive.name,
                f"the symbol table {table.name} has {count} entries in {len(data)} bytes",
            )
        words = list(form.encoding.column(data[form.word : end], form.code))
        try:
            offsets = [moved[offset] for offset in words[form.words - 1 :: form.words]]
        except KeyError as missing:
            raise damaged(
                archive.name,
                f"the symbol table names the offset {missing.args[0]:#x}, where no member starts",
            ) from None
        words[form.words - 1 :: form.words] = offsets
        try:
            new = form.encoding.pack_all(form.code, words)
        except struct.error:
            raise _no_room(archive, f"a member's offset in the symbol table {table.name}") from None
        yield moved[table.header] + table.content - table.header + form.word, new


def _size_field(archive: Archive, member: Member, size: int) -> bytes:
    return _field(archive, str(size), 10, f"the size of {member.label}")


def _name_field(archive: Archive, member: Member, start: int, origin: int | None) -> bytes:
    text = f"/{start}" if origin is None else f"/{start}:{origin}"
    return _field(archive, text, NAME_SIZE, f"the offset of {member.label}")


def _field(archive: Archive, text: str, size: int, what: str) -> bytes:
    """The text with blanks up to the field's size in bytes; SCP110 if it does not fit."""
    if len(text) > size:
        raise _no_room(archive, what)
    return text.encode().ljust(size)


def _no_room(archive: Archive, what: str) -> ScpatchError:
    return ScpatchError(
        "SCP110",
        f"cannot write: {what} does not fit its field",
        file=archive.name,
        hint="split the archive, or let `ar` make it with a 64-bit symbol table (/SYM64/)",
    )
