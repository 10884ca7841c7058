"""The symbols of one object as a comparison needs them: names of relocation targets, and the ranges
of code that functions take."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cached_property

from scpatch.differ.model import Range
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.symtab import SymbolTable

_CODE_TYPES = (c.STT_FUNC, c.STT_NOTYPE)


class Names:
    """Names in one object, found when asked for and kept."""

    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf
        self._symbols: dict[int, str] = {}
        self._ranges: dict[int, tuple[Range, ...]] = {}

    def symbol(self, index: int) -> str:
        """The name of a symbol, of a section symbol the section's; empty for symbol 0."""
        found = self._symbols.get(index)
        if found is None:
            found = self._symbols[index] = self._find(index)
        return found

    def _find(self, index: int) -> str:
        table = self.elf.symbols
        if not index or table is None:
            return ""
        symbol = table[index]
        name = table.raw_name(symbol.st_name).decode("utf-8", "surrogateescape")
        if name or symbol.type != c.STT_SECTION:
            return name
        section = table.section_index(index)
        return self.elf.section_name(section) if section < len(self.elf.sections) else ""

    @cached_property
    def section_names(self) -> Mapping[int, str]:
        return {index: self.elf.section_name(index) for index in range(len(self.elf.sections))}

    @cached_property
    def _starts(self) -> Mapping[int, list[tuple[int, int, int, int]]]:
        """Section -> (st_value, rank, st_size, symbol index) of what may begin a function."""
        found: dict[int, list[tuple[int, int, int, int]]] = {}
        table = self.elf.symbols
        if table is None:
            return found
        executable = {
            index
            for index, section in enumerate(self.elf.sections)
            if section.sh_flags & c.SHF_EXECINSTR
        }
        for index, section, entry in self.entries(table):
            _, info, _, _, value, size = entry
            if section in executable and info & 0xF in _CODE_TYPES:
                function = info & 0xF == c.STT_FUNC and size
                # At one place a function comes before a label, a global name before others.
                rank = (0 if function else 4) + (2 - min(info >> 4, 2) or 0)
                found.setdefault(section, []).append((value, rank, size if function else 0, index))
        return found

    @staticmethod
    def entries(
        table: SymbolTable,
    ) -> Iterator[tuple[int, int, tuple[int, int, int, int, int, int]]]:
        """(index, section index, fields of Elf64_Sym) of every symbol but the first."""
        for index, entry in enumerate(table.encoding.symbol.iter_unpack(table.data)):
            if index:
                extended = entry[3] == c.SHN_XINDEX
                yield index, table.section_index(index) if extended else entry[3], entry

    def ranges(self, section: int) -> tuple[Range, ...]:
        """The functions of a code section in order; together they cover all of it.

        A label inside a sized function begins no range of its own.
        """
        if section not in self._ranges:
            self._ranges[section] = tuple(self._cut(section))
        return self._ranges[section]

    def _cut(self, section: int) -> Iterator[Range]:
        size = self.elf.sections[section].file_size
        called = self.elf.section_name(section)
        starts: list[tuple[int, str]] = []
        covered = -1
        for value, _, length, index in sorted(self._starts.get(section, ())):
            name = self.symbol(index)
            if value < size and value >= covered and name and not name.startswith("."):
                if not starts or starts[-1][0] != value:
                    starts.append((value, name))
                covered = max(covered, value + length)
        if not starts or starts[0][0] > 0:
            starts.insert(0, (0, ""))
        for (start, name), (end, _) in zip(starts, [*starts[1:], (size, "")], strict=True):
            if start < end:
                yield Range(section, called, name, start, end)

    def label(self, section: int, offset: int, inside: Range) -> str:
        """How to call a place in code: `+0x40` in the function `inside`, else `name+0x40`."""
        if inside.start <= offset < inside.end:
            return f"+{offset - inside.start:#x}"
        ranges = self.ranges(section)
        if ranges and 0 <= offset < ranges[-1].end:
            found = ranges[bisect_right(ranges, offset, key=lambda one: one.start) - 1]
            if found.name:
                distance = offset - found.start
                return f"{found.name}+{distance:#x}" if distance else found.name
        sign = "-" if offset < 0 else "+"
        return f"{self.elf.section_name(section)}{sign}{abs(offset):#x}"
