"""Words of code with their relocations.

Two words are the same only if value, and type, symbol and addend of every relocation agree.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter, itemgetter

from scpatch.differ.model import NamedRelocation, Range
from scpatch.differ.names import ObjectNames
from scpatch.ppc64.variant import VARIANT

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

    def words(self, code: Range) -> list[int]:
        """The words of a range; what is left over at its end is the last one."""
        data = bytes(self._content[code.start : code.end])
        words = VARIANT.words(data).tolist()
        if rest := data[4 * len(words) :]:
            words.append(int.from_bytes(rest, VARIANT.byte_order))
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
        contents = (
            bytes(section._content[part.start : part.end])
            for section, part in ((self, code), (other, partner))
        )
        if next(contents) != next(contents):
            return False
        entries, others = self._entries(code), other._entries(partner)
        if same_symbols and code.start == partner.start:
            return entries == others
        return len(entries) == len(others) and self.relocations(code) == other.relocations(partner)
