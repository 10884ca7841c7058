"""Compares what is no code: the file header, sections, symbols, relocations of data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from scpatch.differ.model import FieldChange, Mark, Reference, SectionDiff
from scpatch.differ.names import Names
from scpatch.differ.pairs import Named, Pairing, pair_by_name
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Header, Section

_CHUNK: Final = 1 << 20
_PIECE: Final = 1 << 14


def same_bytes(one: memoryview, other: memoryview) -> bool:
    """Whether two stretches of bytes are the same; compares at the speed of memcmp."""
    return len(one) == len(other) and all(
        bytes(one[at : at + _CHUNK]) == bytes(other[at : at + _CHUNK])
        for at in range(0, len(one), _CHUNK)
    )


def changed_bytes(one: memoryview, other: memoryview) -> int:
    """How many bytes differ in the part that both have."""
    length = min(len(one), len(other))
    total = 0
    for at in range(0, length, _PIECE):
        end = min(at + _PIECE, length)
        ours, theirs = bytes(one[at:end]), bytes(other[at:end])
        if ours != theirs:
            # The zero bytes of the exclusive or are the equal ones.
            mixed = int.from_bytes(ours) ^ int.from_bytes(theirs)
            total += end - at - mixed.to_bytes(end - at).count(0)
    return total


def header_changes(before: ElfFile, after: ElfFile) -> Iterator[FieldChange]:
    """The fields of the ELF header that differ, by their names in the gABI."""
    if bytes(before.data[:16]) != bytes(after.data[:16]):
        yield FieldChange("e_ident", *(bytes(one.data[:16]).hex() for one in (before, after)))
    for name, old, new in zip(Header._fields, before.header, after.header, strict=True):
        if old != new:
            yield FieldChange(name, f"{old:#x}", f"{new:#x}")


def pair_sections(before: ElfFile, after: ElfFile) -> Pairing[int]:
    """Pairs the indices of sections. Sections of equal size go together first if a name occurs more
    often on one side."""
    matching = pair_by_name(_named(before), _named(after))
    return Pairing(sorted(matching.pairs), sorted(matching.removed), sorted(matching.added))


def _named(elf: ElfFile) -> Iterator[Named[int]]:
    for index in range(1, len(elf.sections)):
        yield Named(elf.section_name(index), elf.sections[index].sh_size, index)


def same_symbols(before: ElfFile, after: ElfFile) -> bool:
    """Whether every symbol index of the first object means the same symbol in the second one: its
    tables begin with those of the first."""
    one, other = before.symbols, after.symbols
    if one is None or other is None or (one.extended is None) != (other.extended is None):
        return one is other
    if one.extended is not None and other.extended is not None:
        extended = before.content(one.extended)
        if not same_bytes(extended, after.content(other.extended)[: len(extended)]):
            return False
    return (
        same_bytes(one.data, other.data[: len(one.data)])
        and same_bytes(one.strings, other.strings[: len(one.strings)])
        and _same_names(before, after)
    )


def _same_names(before: ElfFile, after: ElfFile) -> bool:
    """Whether the sections of the first object have the same indices in the second."""
    return len(before.sections) <= len(after.sections) and all(
        before.section_name(i) == after.section_name(i) for i in range(1, len(before.sections))
    )


def section_fields(before: Names, i: int, after: Names, j: int) -> Iterator[FieldChange]:
    """The fields of two section headers that mean something else. File offsets and indices of
    names are layout and not compared; indices of sections are compared by name."""
    old, new = before.elf.sections[i], after.elf.sections[j]
    for name in ("sh_type", "sh_flags", "sh_addr", "sh_addralign", "sh_entsize"):
        one, other = getattr(old, name), getattr(new, name)
        if one != other:
            yield FieldChange(name, f"{one:#x}", f"{other:#x}")
    one, other = (_linked(names.elf, s.sh_link) for names, s in ((before, old), (after, new)))
    if one != other:
        yield FieldChange("sh_link", one, other)
    one, other = _info(before, old), _info(after, new)
    if one != other:
        yield FieldChange("sh_info", one, other)


def _linked(elf: ElfFile, index: int) -> str:
    return elf.section_name(index) if 0 < index < len(elf.sections) else str(index)


def _info(names: Names, section: Section) -> str:
    if section.sh_type in (c.SHT_RELA, c.SHT_REL):
        return _linked(names.elf, section.sh_info)
    if section.sh_type == _SHT_GROUP:
        return names.symbol(section.sh_info)
    return str(section.sh_info)


_SHT_GROUP: Final = 17


def section_alone(elf: ElfFile, index: int, mark: Mark) -> SectionDiff:
    """A section that only one object has."""
    name, size = elf.section_name(index), elf.sections[index].sh_size
    if mark is Mark.ADDED:
        return SectionDiff(name, None, index, None, size, 0)
    return SectionDiff(name, index, None, size, None, 0)


def relocation_changes(before: Names, i: int, after: Names, j: int) -> list[Iterable[Reference]]:
    """The relocations of two sections that were removed, and those that were added, by meaning."""
    old, new = Counter(_references(before, i)), Counter(_references(after, j))
    return [(old - new).elements(), (new - old).elements()]


def _references(names: Names, section: int) -> Iterator[Reference]:
    table = names.elf.relocations(section)
    if table is not None:
        columns = table.r_offset.tolist(), table.r_info.tolist(), table.r_addend.tolist()
        for offset, info, addend in zip(*columns, strict=True):
            yield Reference(info & 0xFFFFFFFF, names.symbol(info >> 32), addend, offset)
