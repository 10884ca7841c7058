"""The symbols of one object as a comparison needs them: names of relocation targets, and the code
that belongs to each function."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cached_property
from operator import attrgetter

from scpatch.differ.model import Range
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Symbol

_CODE_TYPES = (c.STT_FUNC, c.STT_NOTYPE)


class ObjectNames:
    """Names in one object. Each is looked up once."""

    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf
        self._symbols: dict[int, str] = {}
        self._ranges: dict[int, tuple[Range, ...]] = {}

    def symbol(self, index: int) -> str:
        """The name of a symbol; the section's for a section symbol, empty for symbol 0."""
        name = self._symbols.get(index)
        if name is None:
            name = self._symbols[index] = self._look_up(index)
        return name

    def _look_up(self, index: int) -> str:
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

    def symbols(self) -> Iterator[tuple[int, int, Symbol]]:
        """(index, section index, symbol) of every symbol but the first."""
        table = self.elf.symbols
        if table is None:
            return
        for index, fields in enumerate(self.elf.encoding.symbol.iter_unpack(table.data)):
            if index:
                symbol = Symbol._make(fields)
                extended = symbol.st_shndx == c.SHN_XINDEX
                yield index, table.section_index(index) if extended else symbol.st_shndx, symbol

    @cached_property
    def _starts(self) -> Mapping[int, list[tuple[int, int, int, int]]]:
        """Section -> (st_value, rank, st_size, symbol index) of what may begin a function."""
        starts: dict[int, list[tuple[int, int, int, int]]] = {}
        executable = {
            index
            for index, section in enumerate(self.elf.sections)
            if section.sh_flags & c.SHF_EXECINSTR
        }
        for index, section, symbol in self.symbols():
            if section in executable and symbol.type in _CODE_TYPES:
                size = symbol.st_size if symbol.type == c.STT_FUNC else 0
                # At one place a function comes before a label, a global name before others.
                rank = (0 if size else 4) + (2 - min(symbol.binding, 2) or 0)
                starts.setdefault(section, []).append((symbol.st_value, rank, size, index))
        return starts

    def ranges(self, section: int) -> tuple[Range, ...]:
        """The functions of a code section in order. Together they cover all of it.

        A label inside a sized function begins no range.
        """
        if section not in self._ranges:
            self._ranges[section] = tuple(self._cut(section))
        return self._ranges[section]

    def _cut(self, section: int) -> Iterator[Range]:
        size = self.elf.sections[section].file_size
        section_name = self.elf.section_name(section)
        starts: dict[int, str] = {}
        covered = -1
        for value, _, length, index in sorted(self._starts.get(section, ())):
            name = self.symbol(index)
            if covered <= value < size and name and not name.startswith("."):
                starts.setdefault(value, name)
                covered = max(covered, value + length)
        if 0 not in starts:
            starts = {0: "", **starts}
        for (start, name), end in zip(starts.items(), [*starts, size][1:], strict=True):
            if start < end:
                yield Range(section, section_name, name, start, end)

    def label(self, section: int, offset: int, inside: Range) -> str:
        """What to call a place in code: `+0x40` in the function `inside`, else `name+0x40`."""
        if inside.start <= offset < inside.end:
            return f"+{offset - inside.start:#x}"
        ranges = self.ranges(section)
        if ranges and 0 <= offset < ranges[-1].end:
            code = ranges[bisect_right(ranges, offset, key=attrgetter("start")) - 1]
            if code.name:
                distance = offset - code.start
                return f"{code.name}+{distance:#x}" if distance else code.name
        sign = "-" if offset < 0 else "+"
        return f"{self.elf.section_name(section)}{sign}{abs(offset):#x}"
