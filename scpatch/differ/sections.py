"""Compares the sections of two objects: headers, bytes, and relocations of data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Final

from scpatch.differ.model import FieldChange, NamedRelocation, SectionDiff
from scpatch.differ.names import ObjectNames
from scpatch.differ.pairs import Named, Pairing, pair_by_name
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Header, Section

_FIELDS: Final = ("sh_type", "sh_flags", "sh_addr", "sh_addralign", "sh_entsize")
"""What is compared as it is. File offsets and indices of names are layout, and indices of sections
are compared by name."""
_SHT_GROUP: Final = 17


@dataclass(frozen=True)
class SectionPairs:
    """The sections of two objects by their indices, paired by name."""

    before: ObjectNames
    after: ObjectNames
    same_symbols: bool
    """Every symbol index means the same in both."""

    @cached_property
    def all(self) -> Pairing[int]:
        """Sections of equal size go together first if a name occurs more often on one side."""
        pairs = pair_by_name(_named(self.before.elf), _named(self.after.elf))
        return Pairing(sorted(pairs.pairs), sorted(pairs.removed), sorted(pairs.added))

    @cached_property
    def differing(self) -> list[tuple[int, int]]:
        """The pairs that are not the same as far as their bytes tell."""
        return [pair for pair in self.all.pairs if not self._same(*pair)]

    def _same(self, i: int, j: int) -> bool:
        """Whether the bytes tell that nothing differs. They do not if relocations name symbols
        that have other indices now."""
        before, after = self.before.elf, self.after.elf
        old, new = before.sections[i], after.sections[j]
        relocates = old.sh_type == c.SHT_RELA and old.sh_info < len(before.sections)
        if relocates and not self.same_symbols and _is_alloc(before, old.sh_info):
            return False
        fields = attrgetter(*_FIELDS, "sh_size")
        links = attrgetter("sh_link", "sh_info")
        return (
            bool(fields(old) == fields(new))
            and (self.same_symbols or links(old) == links(new))
            and same_bytes(before.content(i), after.content(j))
        )

    def code(self, refusing: Collection[int]) -> Pairing[int]:
        """The code sections to show: those that differ, whose relocations do, or in which a call
        site is refused (`refusing`, by their indices in the second object)."""
        before, after = self.before.elf, self.after.elf
        changed = set()
        for i, _ in self.differing:
            section = before.sections[i]
            changed.add(section.sh_info if section.sh_type == c.SHT_RELA else i)
        return Pairing(
            [
                (i, j)
                for i, j in self.all.pairs
                if (i in changed or j in refusing) and _is_code(before, i) and _is_code(after, j)
            ],
            [index for index in self.all.removed if _is_code(before, index)],
            [index for index in self.all.added if _is_code(after, index)],
        )

    def diffs(self) -> Iterator[SectionDiff]:
        """The sections that changed, then those that were removed, then those that were added."""
        for pair in self.differing:
            if (diff := self._diff(*pair)) is not None:
                yield diff
        for i in self.all.removed:
            elf = self.before.elf
            yield SectionDiff(elf.section_name(i), i, None, elf.sections[i].sh_size, None, 0)
        for j in self.all.added:
            elf = self.after.elf
            yield SectionDiff(elf.section_name(j), None, j, None, elf.sections[j].sh_size, 0)

    def _diff(self, i: int, j: int) -> SectionDiff | None:
        before, after = self.before.elf, self.after.elf
        old, new = before.sections[i], after.sections[j]
        shown = _shown(self.before, old), _shown(self.after, new)
        fields = FieldChange.between((*_FIELDS, "sh_link", "sh_info"), *shown)
        changed = changed_bytes(before.content(i), after.content(j))
        differs = changed > 0
        removed: tuple[NamedRelocation, ...] = ()
        added: tuple[NamedRelocation, ...] = ()
        if old.sh_type == new.sh_type == c.SHT_RELA and _is_alloc(before, old.sh_info):
            # The meaning of the entries counts: the symbols may have other indices now.
            differs = differs and self.same_symbols
            if not _is_code(before, old.sh_info):
                gone = Counter(_relocations(self.before, old.sh_info))
                came = Counter(_relocations(self.after, new.sh_info))
                removed, added = _sorted(gone - came), _sorted(came - gone)
        if not (removed or added or fields or old.sh_size != new.sh_size or differs):
            return None
        sizes = old.sh_size, new.sh_size
        return SectionDiff(before.section_name(i), i, j, *sizes, changed, fields, removed, added)


def _named(elf: ElfFile) -> Iterator[Named[int]]:
    for index in range(1, len(elf.sections)):
        yield Named(elf.section_name(index), elf.sections[index].sh_size, index)


def _is_code(elf: ElfFile, index: int) -> bool:
    section = elf.sections[index]
    return bool(section.sh_flags & c.SHF_EXECINSTR) and section.sh_type != c.SHT_NOBITS


def _is_alloc(elf: ElfFile, index: int) -> bool:
    return bool(elf.sections[index].sh_flags & c.SHF_ALLOC)


def _linked(elf: ElfFile, index: int) -> str:
    return elf.section_name(index) if 0 < index < len(elf.sections) else str(index)


def _shown(names: ObjectNames, section: Section) -> tuple[str, ...]:
    """The compared fields of a section header, and what its links mean."""
    info = str(section.sh_info)
    if section.sh_type in (c.SHT_RELA, c.SHT_REL):
        info = _linked(names.elf, section.sh_info)
    elif section.sh_type == _SHT_GROUP:
        info = names.symbol(section.sh_info)
    fields = (hex(getattr(section, name)) for name in _FIELDS)
    return (*fields, _linked(names.elf, section.sh_link), info)


def _relocations(names: ObjectNames, section: int) -> Iterator[NamedRelocation]:
    table = names.elf.relocations(section)
    if table is not None:
        columns = table.r_offset.tolist(), table.r_info.tolist(), table.r_addend.tolist()
        for offset, info, addend in zip(*columns, strict=True):
            yield NamedRelocation(info & 0xFFFFFFFF, names.symbol(info >> 32), addend, offset)


def _sorted(relocations: Counter[NamedRelocation]) -> tuple[NamedRelocation, ...]:
    return tuple(sorted(relocations.elements(), key=attrgetter("order")))


_CHUNK: Final = 1 << 20
_PIECE: Final = 1 << 14


def same_bytes(before: memoryview, after: memoryview) -> bool:
    """Whether two stretches of bytes are the same; compares at the speed of memcmp."""
    return len(before) == len(after) and all(
        bytes(before[at : at + _CHUNK]) == bytes(after[at : at + _CHUNK])
        for at in range(0, len(before), _CHUNK)
    )


def changed_bytes(before: memoryview, after: memoryview) -> int:
    """How many bytes differ in the part that both have."""
    length = min(len(before), len(after))
    total = 0
    for at in range(0, length, _PIECE):
        end = min(at + _PIECE, length)
        old, new = bytes(before[at:end]), bytes(after[at:end])
        if old != new:
            # The zero bytes of the exclusive or are the equal ones.
            mixed = int.from_bytes(old) ^ int.from_bytes(new)
            total += end - at - mixed.to_bytes(end - at).count(0)
    return total


def header_changes(before: ElfFile, after: ElfFile) -> tuple[FieldChange, ...]:
    """The fields of the ELF header that differ, by their names in the gABI."""
    old, new = ((bytes(elf.data[:16]).hex(), *map(hex, elf.header)) for elf in (before, after))
    return FieldChange.between(("e_ident", *Header._fields), old, new)


def same_symbols(before: ElfFile, after: ElfFile) -> bool:
    """Whether every symbol index of the first object means the same symbol in the second one: its
    tables begin with those of the first."""
    old, new = before.symbols, after.symbols
    if old is None or new is None or (old.extended is None) != (new.extended is None):
        return old is new
    beginnings = [(old.data, new.data)]
    if old.extended is not None and new.extended is not None:
        beginnings.append((before.content(old.extended), after.content(new.extended)))
    return (
        all(same_bytes(part, whole[: len(part)]) for part, whole in beginnings)
        and new.strings.startswith(old.strings)
        and _same_names(before, after)
    )


def _same_names(before: ElfFile, after: ElfFile) -> bool:
    """Whether the sections of the first object have the same indices in the second."""
    return len(before.sections) <= len(after.sections) and all(
        before.section_name(i) == after.section_name(i) for i in range(1, len(before.sections))
    )
