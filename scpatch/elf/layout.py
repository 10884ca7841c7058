"""Where everything goes when sections of an object grow.

Pure: turns an object and the edits of some of its sections into a list of copies and writes. The
sections keep their order and nothing is duplicated: what follows a grown section shifts, by no more
than the growth and the alignments require.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Section
from scpatch.errors import damaged


class SectionEdit(NamedTuple):
    """What happens to a section: words replaced in place, and bytes added at its end."""

    patches: tuple[tuple[int, bytes], ...] = ()
    """(section offset, new bytes) in place; inside the old size."""
    tail: bytes = b""
    """Added after the last byte."""


class NewSection(NamedTuple):
    """A section that the file gets; its header goes to the end of the table."""

    header: Section
    """Complete but for sh_offset."""
    content: bytes


class Edits(NamedTuple):
    """What happens to an object."""

    sections: Mapping[int, SectionEdit] = {}
    """Section index -> edit."""
    new: tuple[NewSection, ...] = ()
    """Sections to add, from the first free index on."""

    def __bool__(self) -> bool:
        return bool(self.sections or self.new)


class CopiedRange(NamedTuple):
    """`size` bytes that are the same in the old and the new file; offsets are file offsets."""

    source: int
    target: int
    size: int


class Layout(NamedTuple):
    """A new file of `size` bytes: `copies` from the old one, then `writes` over them.

    Offsets are file offsets; what neither covers is zero.
    """

    size: int
    copies: tuple[CopiedRange, ...]
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
    return Layout(size, (CopiedRange(0, 0, size),), ())


class _Part(NamedTuple):
    """A piece of the old file that moves as a whole."""

    offset: int
    """File offset."""
    size: int
    align: int
    """Bytes; the new offset is congruent to the old one."""
    section: int
    """Section index, or one of the numbers below."""


_HEADER, _TABLE, _SLACK = -1, -2, -3
"""The ELF header, the section header table, bytes that belong to nothing."""

_E_SHOFF, _E_SHNUM = 40, 60
"""File offsets of the fields."""
_SH_OFFSET, _SH_SIZE = 24, 32
"""Offsets of the fields in a section header."""
_LARGEST_PAGE = 1 << 16
_BLOCK = 1 << 12
_BULK = 1 << 20
"""Parts of this size keep their offset in the disk's blocks: a filesystem can then share the blocks
of both files, and every other one copies them faster."""
_USUAL = frozenset(1 << power for power in range(17))
"""Alignments that need no further look."""


def lay_out(elf: ElfFile, edits: Edits) -> Layout:
    """The new file for `edits`. Raises SCP107 for overlapping sections."""
    parts = _parts(elf)
    growth = {section: len(edit.tail) for section, edit in edits.sections.items()}
    growth[_TABLE] = len(edits.new) * c.SHDR_SIZE
    targets, end = _place(elf, parts, growth)
    old_table = bytes(elf.data[elf.header.e_shoff :][: len(elf.sections) * c.SHDR_SIZE])
    table = bytearray(old_table) + bytes(growth[_TABLE])
    table_offset = elf.header.e_shoff
    writes: list[tuple[int, bytes]] = []
    put = elf.encoding.long.pack_into
    for (offset, size, _, section), target in zip(parts, targets, strict=True):
        if section == _TABLE:
            table_offset = target
        elif section >= 0 and target != offset:
            put(table, section * c.SHDR_SIZE + _SH_OFFSET, target)
        if section in edits.sections:
            edit = edits.sections[section]
            put(table, section * c.SHDR_SIZE + _SH_SIZE, size + len(edit.tail))
            writes += [(target + at, new) for at, new in edit.patches]
            writes.append((target + size, edit.tail))
    end = _add_sections(elf, edits.new, end, table, writes)
    if table != old_table:
        writes.append((table_offset, bytes(table)))
    if table_offset != elf.header.e_shoff:
        writes.append((_E_SHOFF, elf.encoding.pack(table_offset, 8)))
    return Layout(end, tuple(_copies(parts, targets)), tuple(writes))


def _parts(elf: ElfFile) -> list[_Part]:
    """All parts of the file in file order, with the gaps that are more than padding.

    Raises SCP107 if two parts overlap.
    """
    parts = [
        _Part(
            section.sh_offset,
            section.file_size,
            section.sh_addralign if section.sh_addralign in _USUAL else _alignment(section),
            index,
        )
        for index, section in enumerate(elf.sections)
        if section.sh_type != c.SHT_NULL
    ]
    parts.append(_Part(0, c.EHDR_SIZE, 1, _HEADER))
    parts.append(_Part(elf.header.e_shoff, len(elf.sections) * c.SHDR_SIZE, 8, _TABLE))
    parts.sort()
    placed: list[_Part] = []
    end = 0
    for part in parts:
        start, size, align, _ = part
        if size:
            gap = start - end
            if gap < 0:
                raise damaged(elf.name, f"two parts of the file overlap at {start:#x}")
            if gap and (gap >= align or any(elf.data[end:start])):
                placed.append(_Part(end, gap, 1, _SLACK))
            end = start + size
        placed.append(part)
    if end < len(elf.data):
        placed.append(_Part(end, len(elf.data) - end, 1, _SLACK))
    return placed


def _alignment(section: Section) -> int:
    """What the section's file offset stays congruent to, in bytes.

    An alignment that is not a power of two is ignored, and so is a huge one that the old offset
    does not have: to honour a forged value could make the file any size.
    """
    align = section.sh_addralign
    if align & (align - 1) or (align > _LARGEST_PAGE and section.sh_offset % align):
        return 1
    return align or 1


def _place(
    elf: ElfFile, parts: Sequence[_Part], growth: Mapping[int, int]
) -> tuple[list[int], int]:
    """The new file offset of each part, and where the last one ends. `growth` has the bytes that
    parts get at their ends.

    Raises SCP107 for a part that grows and starts after the end of the file.
    """
    targets: list[int] = []
    old_end = new_end = shift = 0
    for start, size, align, section in parts:
        # Congruent to the old offset, so that a file with odd offsets keeps them.
        target = new_end + (start - new_end) % (max(align, _BLOCK) if size >= _BULK else align)
        if size:
            old_end, new_end, shift = start + size, target + size, target - start
        elif start > len(elf.data):
            # The offset of a part without bytes means nothing; it may be anywhere.
            target = start
        elif section not in growth:
            target = start + shift if start < old_end else max(new_end, start + shift)
            target -= (target - start) % align
        targets.append(target)
        if section in growth:
            if start > len(elf.data):
                # Harmless while it is empty, but the file would grow up to there.
                raise damaged(elf.name, f"section {section} starts at {start:#x}, after the end")
            new_end = target + size + growth[section]
    return targets, new_end


def _copies(parts: Sequence[_Part], targets: Sequence[int]) -> Iterator[CopiedRange]:
    """The bytes that stay the same. Parts that move by one distance are one copy, with the padding
    between them."""
    start = end = shift = 0
    for part, target in zip(parts, targets, strict=True):
        if not part.size:
            continue
        if target - part.offset != shift:
            yield CopiedRange(start, start + shift, end - start)
            start, shift = part.offset, target - part.offset
        end = part.offset + part.size
    yield CopiedRange(start, start + shift, end - start)


def _add_sections(
    elf: ElfFile,
    sections: Sequence[NewSection],
    end: int,
    table: bytearray,
    writes: list[tuple[int, bytes]],
) -> int:
    """Puts new sections after `end` (a file offset), and their headers at the end of `table`.

    Returns the file's new end.
    """
    count = len(elf.sections)
    for new in sections:
        end += -end % new.header.sh_addralign
        header = new.header._replace(sh_offset=end)
        elf.encoding.section.pack_into(table, count * c.SHDR_SIZE, *header)
        writes.append((end, new.content))
        end += len(new.content)
        count += 1
    # Past 65,279 sections the count moves to section header 0 (gABI, "Extended numbering").
    if sections and count < c.SHN_LORESERVE:
        writes.append((_E_SHNUM, elf.encoding.pack(count, 2)))
    elif sections:
        writes.append((_E_SHNUM, bytes(2)))
        elf.encoding.long.pack_into(table, _SH_SIZE, count)
    return end
