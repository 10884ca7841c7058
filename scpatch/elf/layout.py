"""Where everything goes when sections of an object grow.

Pure: turns an object and the edits of some of its sections into a list of copies and writes. No
section moves in front of another one and nothing is duplicated: what lies behind a grown section
shifts, by no more than the growth and the alignment of what follows ask for.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile, Section
from scpatch.errors import damaged


class SectionEdit(NamedTuple):
    """What happens to one section: words replaced in place, and bytes added at its end."""

    patches: tuple[tuple[int, bytes], ...] = ()
    """(section offset, new bytes) in place; inside the old size."""
    tail: bytes = b""
    """What follows the old last byte."""


class NewSection(NamedTuple):
    """A section that the file gets; its header goes to the end of the table."""

    name: int
    """sh_name: an offset in the section name table."""
    kind: int
    """sh_type."""
    flags: int
    content: bytes
    link: int
    info: int
    align: int
    entry_size: int


class Edits(NamedTuple):
    """What happens to an object."""

    sections: Mapping[int, SectionEdit] = MappingProxyType({})
    """Section index -> edit."""
    new: tuple[NewSection, ...] = ()
    """Sections to add; the first one gets the first index that is free."""

    def __bool__(self) -> bool:
        return bool(self.sections or self.new)


class Copy(NamedTuple):
    """`size` bytes that are the same in the old and the new file; offsets are file offsets."""

    source: int
    target: int
    size: int


class Layout(NamedTuple):
    """A new file of `size` bytes: `copies` from the old one, then `writes` over them.

    Offsets are file offsets; what neither covers is zero.
    """

    size: int
    copies: tuple[Copy, ...]
    writes: tuple[tuple[int, bytes], ...]

    def apply(self, source: memoryview) -> bytes:
        """The content of the new file, from that of the old one."""
        new = bytearray(self.size)
        for copy in self.copies:
            new[copy.target : copy.target + copy.size] = source[copy.source :][: copy.size]
        for offset, content in self.writes:
            new[offset : offset + len(content)] = content
        return bytes(new)


def unchanged(size: int) -> Layout:
    """The layout of a file of `size` bytes that stays as it is."""
    return Layout(size, (Copy(0, 0, size),), ())


_Extent = tuple[int, int, int, int]
"""A stretch of the old file that moves as one: file offset, size and alignment in bytes, and the
section index, or one of the numbers below."""

_HEADER, _TABLE, _SLACK = -1, -2, -3

_E_SHNUM = 60
"""File offset of the field."""
_SH_SIZE = 32
"""Where the field lies in a section header."""
_LARGEST_PAGE = 1 << 16
_BLOCK = 1 << 12
_BULK = 1 << 20
"""Parts of so many bytes keep their place in the blocks of the disk: a filesystem can then share
the blocks of both files, and every other one copies them faster."""
_USUAL = frozenset(1 << power for power in range(17))
"""Alignments that need no further look."""


def extents(elf: ElfFile) -> list[_Extent]:
    """All parts of the file in file order, the gaps that are more than padding included.

    Raises SCP107 where two parts overlap.
    """
    parts = [
        (
            section[4],
            section.file_size,
            section[8] if section[8] in _USUAL else _alignment(section),
            index,
        )
        for index, section in enumerate(elf.sections)
        if section[1]
    ]
    parts.append((0, c.EHDR_SIZE, 1, _HEADER))
    parts.append((elf.header.e_shoff, len(elf.sections) * c.SHDR_SIZE, 8, _TABLE))
    parts.sort()
    placed: list[_Extent] = []
    end = 0
    for part in parts:
        start, size, align, _ = part
        if size:
            gap = start - end
            if gap < 0:
                raise damaged(elf.name, f"two parts of the file overlap at {start:#x}")
            if gap and (gap >= align or any(elf.data[end:start])):
                placed.append((end, gap, 1, _SLACK))
            end = start + size
        placed.append(part)
    if end < len(elf.data):
        placed.append((end, len(elf.data) - end, 1, _SLACK))
    return placed


def _alignment(section: Section) -> int:
    """What the section's file offset stays congruent to, in bytes.

    An alignment that is no power of two, or a huge one that the old offset does not have either,
    is passed over: honouring a forged value could make the file any size.
    """
    align = section.sh_addralign
    if align & (align - 1) or (align > _LARGEST_PAGE and section.sh_offset % align):
        return 1
    return align or 1


def lay_out(elf: ElfFile, edits: Edits) -> Layout:
    """The new file for `edits`. Raises SCP107 for overlapping sections."""
    copies: list[Copy] = []
    writes: list[tuple[int, bytes]] = []
    old_table = bytes(elf.data[elf.header.e_shoff :][: len(elf.sections) * c.SHDR_SIZE])
    table = bytearray(old_table) + bytes(len(edits.new) * c.SHDR_SIZE)
    fields = memoryview(table).cast("Q")
    table_offset = end = shift = run = end_of_run = 0
    for start, size, align, section in extents(elf):
        # Congruent to the old offset, so that a file with odd offsets keeps them.
        target = end + (start - end) % (max(align, _BLOCK) if size >= _BULK else align)
        if not size:
            target = _place_empty(elf, start, target, shift, inside=start < end_of_run)
        elif target - start != shift:
            # Up to here everything moved by one distance, its padding too: one copy does.
            copies.append(Copy(run, run + shift, end_of_run - run))
            run, shift = start, target - start
        if section >= 0:
            fields[8 * section + 3] = target
        elif section == _TABLE:
            table_offset = target
        if size:
            end = target + size
            end_of_run = start + size
        if section == _TABLE:
            end += len(edits.new) * c.SHDR_SIZE
        if section in edits.sections:
            if start > len(elf.data):
                # Of no harm for an empty section, but the file would grow as far as that.
                raise damaged(elf.name, f"section {section} lies at {start:#x}, behind the end")
            edit = edits.sections[section]
            fields[8 * section + 4] = size + len(edit.tail)
            writes += [(target + offset, new) for offset, new in edit.patches]
            writes.append((target + size, edit.tail))
            end = target + size + len(edit.tail)
    copies.append(Copy(run, run + shift, end_of_run - run))
    end = _place_new(elf, edits.new, end, table, writes)
    if table != old_table:
        writes.append((table_offset, bytes(table)))
    if table_offset != elf.header.e_shoff:
        writes.append((40, table_offset.to_bytes(8, "little")))
    return Layout(end, tuple(copies), tuple(writes))


def _place_empty(elf: ElfFile, start: int, target: int, shift: int, *, inside: bool) -> int:
    """The new file offset of a part without bytes.

    Where it lies means nothing, so it may even lie inside another part, or behind the file's end.
    """
    if start > len(elf.data):
        return start
    return start + shift if inside else max(target, start + shift)


def _place_new(
    elf: ElfFile,
    sections: tuple[NewSection, ...],
    end: int,
    table: bytearray,
    writes: list[tuple[int, bytes]],
) -> int:
    """Puts new sections behind `end` (a file offset), their headers at the end of `table`.

    Returns the file's new end.
    """
    count = len(elf.sections)
    for new in sections:
        end += -end % new.align
        struct.pack_into(
            "<IIQQQQIIQQ",
            table,
            count * c.SHDR_SIZE,
            *(new.name, new.kind, new.flags, 0, end, len(new.content)),
            *(new.link, new.info, new.align, new.entry_size),
        )
        writes.append((end, new.content))
        end += len(new.content)
        count += 1
    # Past 65,279 sections the count moves to section header 0 (gABI, "Extended numbering").
    if sections and count < c.SHN_LORESERVE:
        writes.append((_E_SHNUM, count.to_bytes(2, "little")))
    elif sections:
        writes.append((_E_SHNUM, bytes(2)))
        struct.pack_into("<Q", table, _SH_SIZE, count)
    return end
