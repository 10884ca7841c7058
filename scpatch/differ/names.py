"""The symbols of one object as a comparison needs them: names of relocation targets, and the code
that belongs to each function."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from operator import attrgetter, itemgetter

from scpatch.differ.model import NamedRelocation, Range
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Symbol

_CODE_TYPES = (c.STT_FUNC, c.STT_NOTYPE)


class ObjectNames:
    """Names in one object. Each is looked up once."""

    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf
        self.symbol = cache(self._symbol)
        self.ranges = cache(self._ranges)

    def _symbol(self, index: int) -> str:
        """The name of a symbol; the section's for a section symbol, empty for symbol 0."""
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
        starts: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        flags = {index: section.sh_flags for index, section in enumerate(self.elf.sections)}
        for index, section, symbol in self.symbols():
            if flags.get(section, 0) & c.SHF_EXECINSTR and symbol.type in _CODE_TYPES:
                size = symbol.st_size if symbol.type == c.STT_FUNC else 0
                # At one place a function comes before a label, a global name before others.
                rank = (0 if size else 4) + (2 - min(symbol.binding, 2) or 0)
                starts[section].append((symbol.st_value, rank, size, index))
        return starts

    def _ranges(self, section: int) -> tuple[Range, ...]:
        """The functions of a code section in order. Together they cover all of it.

        A label inside a sized function begins no range.
        """
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
        return tuple(
            Range(section, section_name, name, start, end)
            for (start, name), end in zip(starts.items(), [*starts, size][1:], strict=True)
            if start < end
        )

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


Key = tuple[int, int, tuple[NamedRelocation, ...]]
"""A word, its size in bytes, and its relocations: what has to agree."""

_OFFSET = itemgetter(0)


class CodeSection:
    """The words and relocations of one code section."""

    def __init__(self, names: ObjectNames, section: int) -> None:
        self._names = names
        self._content = names.elf.content(section)
        table = names.elf.relocations(section)
        columns = () if table is None else (table.r_offset, table.r_info, table.r_addend)
        entries = zip(*(column.tolist() for column in columns), strict=True)
        self._relocations: list[tuple[int, ...]] = sorted(entries, key=_OFFSET)
        """(r_offset, r_info, r_addend)"""

    def _entries(self, code: Range) -> list[tuple[int, ...]]:
        """The relocations of a range."""
        start, end = (
            bisect_left(self._relocations, at, key=_OFFSET) for at in (code.start, code.end)
        )
        return self._relocations[start:end]

    def _bytes(self, code: Range) -> bytes:
        return bytes(self._content[code.start : code.end])

    def words(self, code: Range) -> list[int]:
        """The words of a range; what is left over at its end is the last one."""
        data = self._bytes(code)
        encoding = self._names.elf.encoding
        words = encoding.words(data).tolist()
        if rest := data[4 * len(words) :]:
            words.append(encoding.number(rest))
        return words

    def relocations(self, code: Range) -> list[tuple[NamedRelocation, ...]]:
        """The relocations of each word of a range."""
        words: list[list[NamedRelocation]] = [[] for _ in range(code.words)]
        for offset, info, addend in self._entries(code):
            index, at = divmod(offset - code.start, 4)
            symbol = self._names.symbol(info >> 32)
            words[index].append(NamedRelocation(info & 0xFFFFFFFF, symbol, addend, at))
        return [tuple(sorted(word, key=attrgetter("order"))) for word in words]

    def keys(self, code: Range) -> list[Key]:
        sizes = [min(4, code.end - offset) for offset in range(code.start, code.end, 4)]
        return list(zip(self.words(code), sizes, self.relocations(code), strict=True))

    def same(self, code: Range, other: CodeSection, partner: Range, *, same_symbols: bool) -> bool:
        """Whether two ranges have the same bytes and the same relocations."""
        if self._bytes(code) != other._bytes(partner):
            return False
        entries, others = self._entries(code), other._entries(partner)
        if same_symbols and code.start == partner.start:
            return entries == others
        return len(entries) == len(others) and self.relocations(code) == other.relocations(partner)
