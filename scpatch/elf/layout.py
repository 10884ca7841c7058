"""Where everything goes when sections of an object grow.

Pure: turns an object and the edits of some of its sections into a list of copies and writes. No
section moves in front of another one and nothing is duplicated: what lies behind a grown section
shifts, by no more than the growth and the alignment of what follows ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile, Section
from scpatch.errors import damaged


@dataclass(frozen=True, slots=True)
class SectionEdit:
    """What happens to one section: words replaced in place, and bytes added at its end."""

    patches: tuple[tuple[int, bytes], ...] = ()
    """(section offset, new bytes) in place; inside the old size."""
    tail: bytes = b""
    """What follows the old last byte."""


@dataclass(frozen=True, slots=True)
class Copy:
    """`size` bytes that are the same in the old and the new file; offsets are file offsets."""

    source: int
    target: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A new file of `size` bytes: `copies` from the old one, then `writes` over them.

    Offsets are file offsets; what neither covers is zero.
    """

    size: int
    copies: tuple[Copy, ...]
    writes: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class _Extent:
    """A stretch of the old file that moves as one; `section` is -1 for what is no section."""

    start: int
    size: int
    align: int
    section: int


_HEADER, _TABLE, _SLACK = -1, -2, -3

_LARGEST_PAGE = 1 << 16


def extents(elf: ElfFile) -> list[_Extent]:
    """All parts of the file in file order, the gaps that are more than padding included.

    Raises SCP107 where two parts overlap.
    """
    head = elf.header
    parts = [
        _Extent(0, c.EHDR_SIZE, 1, _HEADER),
        _Extent(head.e_shoff, len(elf.sections) * c.SHDR_SIZE, 8, _TABLE),
    ]
    for index, section in enumerate(elf.sections):
        if section.sh_type:
            parts.append(_Extent(section.sh_offset, section.file_size, _alignment(section), index))
    parts.sort(key=lambda part: (part.start, part.size))
    placed: list[_Extent] = []
    end = 0
    for part in parts:
        if part.size and part.start < end:
            raise damaged(elf.name, f"two parts of the file overlap at {part.start:#x}")
        if part.size:
            gap = part.start - end
            if gap >= part.align or any(elf.data[end : part.start]):
                placed.append(_Extent(end, gap, 1, _SLACK))
            end = part.start + part.size
        placed.append(part)
    if end < len(elf.data):
        placed.append(_Extent(end, len(elf.data) - end, 1, _SLACK))
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


def lay_out(elf: ElfFile, edits: Mapping[int, SectionEdit]) -> Layout:
    """The new file for `edits` (section index -> edit). Raises SCP107 for overlapping sections."""
    copies: list[Copy] = []
    writes: list[tuple[int, bytes]] = []
    table = bytearray(elf.data[elf.header.e_shoff :][: len(elf.sections) * c.SHDR_SIZE])
    fields = memoryview(table).cast("Q")
    table_offset = end = shift = 0
    for part in extents(elf):
        # Congruent to the old offset, so that a file with odd offsets keeps them.
        target = end + (part.start - end) % part.align
        if not part.size:
            # Where an empty section lies means nothing, so it may even lie behind the file's end.
            inside = part.start <= len(elf.data)
            target = max(target, part.start + shift) if inside else part.start
        if part.section >= 0:
            edit = edits.get(part.section)
            fields[8 * part.section + 3] = target
            if edit is not None:
                fields[8 * part.section + 4] = part.size + len(edit.tail)
                writes += [(target + offset, new) for offset, new in edit.patches]
                if edit.tail:
                    writes.append((target + part.size, edit.tail))
        elif part.section == _TABLE:
            table_offset = target
        if part.size:
            _append(copies, Copy(part.start, target, part.size))
            end = target + part.size
            shift = target - part.start
            if part.section in edits:
                end += len(edits[part.section].tail)
    if bytes(table) != elf.data[elf.header.e_shoff :][: len(table)]:
        writes.append((table_offset, bytes(table)))
    if table_offset != elf.header.e_shoff:
        writes.append((40, table_offset.to_bytes(8, "little")))
    return Layout(end, tuple(copies), tuple(writes))


def _append(copies: list[Copy], new: Copy) -> None:
    """Adds a copy; joins it to the last one where both moved by the same distance.

    The padding between the two goes along: it was zero and stays zero.
    """
    if copies and copies[-1].source - copies[-1].target == new.source - new.target:
        first = copies[-1]
        copies[-1] = Copy(first.source, first.target, new.source + new.size - first.source)
    else:
        copies.append(new)
