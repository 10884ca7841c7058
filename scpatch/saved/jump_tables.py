"""Which places PC-relative relocations mean, where the distance counts from another place.

A jump table of compilers holds `label - table`, in each entry: the relocation of the entry at
table + 4*k then names label + 4*k. Where tables start is told by what names them: instructions, the
.toc, symbols. An entry that is named itself is the distance from itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.linux.patched import Range
from scpatch.ppc64.relocs import PC_RELATIVE_CODE, PC_RELATIVE_DATA


class Relative(NamedTuple):
    """A relocation that names a place in code relative to itself."""

    table: int
    """Index of the section that it applies to."""
    at: int
    """Its r_offset."""
    kind: int
    section: int
    offset: int
    """The place in code that symbol and addend name."""


def find_places(elf: ElfFile, relative: Iterable[Relative]) -> Iterator[tuple[int, int | Range]]:
    """(section, place) of each label that `relative` may mean; a range for many of them.

    Where what lies between an entry and the name before it is no row of such entries, that is any
    place that a start in between would give. A row may be of distances from each entry, too.
    """
    by_table: dict[int, list[Relative]] = {}
    for one in relative:
        by_table.setdefault(one.table, []).append(one)
    names, functions = _names(elf, by_table.keys()) if by_table else ({}, {})
    for table, here in by_table.items():
        rows = _rows(elf, table)
        for one in here:
            if one.kind in PC_RELATIVE_CODE:
                # The address that it counts from is not before the function's start.
                yield one.section, _back(one, _last(functions[table], one.at))
                continue
            start = _last(names[table], one.at)
            if start < rows[one.at]:
                yield one.section, _back(one, start)
                continue
            yield one.section, one.offset - (one.at - start)
            if start != one.at:
                yield one.section, Range(one.offset, one.offset + 4)


def _back(one: Relative, start: int) -> Range:
    """What a distance may mean that counts from somewhere between `start` and itself."""
    return Range(one.offset - (one.at - start & ~3), one.offset + 4)


def _last(places: Sequence[int], at: int) -> int:
    """The last of some places that is not behind `at`; the section's start without one."""
    index = bisect_right(places, at) - 1
    return places[index] if index >= 0 else 0


def _rows(elf: ElfFile, section: int) -> Mapping[int, int]:
    """Where the row of PC-relative entries, one behind the other, starts that each one is in."""
    table = elf.relocations(section)
    assert table is not None, "it has the relocations that were found"
    sizes = {
        at: PC_RELATIVE_DATA[info & 0xFFFFFFFF]
        for at, info in zip(table.r_offset, table.r_info, strict=True)
        if info & 0xFFFFFFFF in PC_RELATIVE_DATA
    }
    found: dict[int, int] = {}
    for at in sorted(sizes):
        before = at - sizes[at]
        joined = sizes.get(before) == sizes[at]
        found[at] = found[before] if joined else at
    return found


Offsets = dict[int, list[int]]
"""Section index -> sorted section offsets."""


def _names(elf: ElfFile, sections: Iterable[int]) -> tuple[Offsets, Offsets]:
    """What is named in `sections`, and where functions start there. Names are those of symbols and
    of relocations that are not PC-relative: those would have to be understood first."""
    symbols, wanted = elf.symbols, set(sections)
    assert symbols is not None, "relocations name symbols"
    found: dict[int, set[int]] = {section: set() for section in wanted}
    functions: dict[int, set[int]] = {section: set() for section in wanted}
    homes = dict(symbols.in_sections(wanted))
    values, info = symbols.st_value, symbols.st_info
    for index, section in homes.items():
        kind = info[index] & 0xF
        if kind not in (c.STT_SECTION, c.STT_FILE):
            found[section].add(values[index])
        if kind == c.STT_FUNC:
            functions[section].add(values[index])
    for target in elf.relocated:
        table = elf.relocations(target) if elf.sections[target].sh_flags & c.SHF_ALLOC else None
        if table is None or homes.keys().isdisjoint(table.symbol):
            continue
        kinds, addends = table.r_info, table.r_addend
        for at, symbol in enumerate(table.symbol):
            kind = kinds[at] & 0xFFFFFFFF
            if symbol in homes and kind not in PC_RELATIVE_DATA and kind not in PC_RELATIVE_CODE:
                found[homes[symbol]].add(values[symbol] + addends[at])
    return _sorted(found), _sorted(functions)


def _sorted(found: Mapping[int, Iterable[int]]) -> Offsets:
    return {section: sorted(places) for section, places in found.items()}
