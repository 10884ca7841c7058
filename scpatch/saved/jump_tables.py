"""Which places PC-relative relocations mean, if the distance counts from another place.

A compiler's jump table holds `label - table` in each entry: the relocation of the entry at
table + 4*k then names label + 4*k. What names the tables tells where they start: instructions, the
.toc, symbols. An entry that is named itself is the distance from itself.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.linux.patched import CodeRange
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


def find_places(
    elf: ElfFile, relocations: Iterable[Relative]
) -> Iterator[tuple[int, int | CodeRange]]:
    """(section, offset) of each label that the relocations may mean; a range for many of them.

    An entry counts from the name before it if only such entries are in between. Otherwise it may
    count from any place in between. The entries of a row may also each count from themselves.
    """
    by_table: dict[int, list[Relative]] = {}
    for item in relocations:
        by_table.setdefault(item.table, []).append(item)
    names, functions = _names(elf, by_table.keys()) if by_table else ({}, {})
    for table, items in by_table.items():
        rows = _rows(elf, table)
        for item in items:
            if item.kind in PC_RELATIVE_CODE:
                # The address that it counts from is not before the function's start.
                yield item.section, _since(item, _last(functions[table], item.at))
                continue
            start = _last(names[table], item.at)
            if start < rows[item.at]:
                yield item.section, _since(item, start)
                continue
            yield item.section, item.offset - (item.at - start)
            if start != item.at:
                yield item.section, CodeRange(item.offset, item.offset + 4)


def _since(item: Relative, start: int) -> CodeRange:
    """What a distance may mean that counts from somewhere between `start` and itself."""
    return CodeRange(item.offset - (item.at - start & ~3), item.offset + 4)


def _last(places: Sequence[int], at: int) -> int:
    """The last of some sorted places up to `at`; the section's start without one."""
    index = bisect_right(places, at) - 1
    return places[index] if index >= 0 else 0


def _rows(elf: ElfFile, section: int) -> Mapping[int, int]:
    """PC-relative entry -> where the row of adjacent ones starts that it is in."""
    table = elf.relocations(section)
    assert table is not None, "it has relocations"
    sizes = {
        at: PC_RELATIVE_DATA[info & 0xFFFFFFFF]
        for at, info in zip(table.r_offset, table.r_info, strict=True)
        if info & 0xFFFFFFFF in PC_RELATIVE_DATA
    }
    rows: dict[int, int] = {}
    for at in sorted(sizes):
        before = at - sizes[at]
        rows[at] = rows[before] if sizes.get(before) == sizes[at] else at
    return rows


_Places = dict[int, list[int]]
"""Section index -> sorted section offsets."""


def _names(elf: ElfFile, sections: Iterable[int]) -> tuple[_Places, _Places]:
    """What is named in `sections`, and where functions start there. Names are those of symbols and
    of relocations that are not PC-relative: those would have to be understood first."""
    symbols, wanted = elf.symbols, set(sections)
    assert symbols is not None, "relocations name symbols"
    names: dict[int, set[int]] = {section: set() for section in wanted}
    functions: dict[int, set[int]] = {section: set() for section in wanted}
    homes = symbols.homes(wanted)
    values, info = symbols.st_value, symbols.st_info
    for index, section in homes.items():
        kind = info[index] & 0xF
        if kind not in (c.STT_SECTION, c.STT_FILE):
            names[section].add(values[index])
        if kind == c.STT_FUNC:
            functions[section].add(values[index])
    loaded = elf.loaded
    for at in loaded.naming(homes):
        symbol, kind = loaded.symbol[at], loaded.r_info[at] & 0xFFFFFFFF
        if kind not in PC_RELATIVE_DATA and kind not in PC_RELATIVE_CODE:
            names[homes[symbol]].add(values[symbol] + loaded.r_addend[at])
    return _sorted(names), _sorted(functions)


def _sorted(places: Mapping[int, Iterable[int]]) -> _Places:
    return {section: sorted(inside) for section, inside in places.items()}
