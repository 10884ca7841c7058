"""Compares code: sections cut into functions, functions aligned word by word.

Two words are the same only where value, relocation type, symbol and addend agree.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from operator import attrgetter

from scpatch.differ.model import Range, Reference
from scpatch.differ.names import Names
from scpatch.elf.reader import ElfFile
from scpatch.ppc64.variant import VARIANT

Key = tuple[int, int, tuple[Reference, ...]]
"""A word, its size in bytes, and its relocations: what has to agree."""


class CodeSection:
    """The words and relocations of one code section."""

    def __init__(self, names: Names, section: int) -> None:
        self.names = names
        self.section = section
        self.content = names.elf.content(section)

    @property
    def elf(self) -> ElfFile:
        return self.names.elf

    @cached_property
    def _columns(self) -> tuple[list[int], list[int], list[int]]:
        """r_offset, r_info and r_addend of the section's relocations, sorted by offset."""
        table = self.elf.relocations(self.section)
        if table is None:
            return [], [], []
        offsets = table.r_offset.tolist()
        infos, addends = table.r_info.tolist(), table.r_addend.tolist()
        if all(map(int.__le__, offsets, offsets[1:])):
            return offsets, infos, addends
        order = sorted(range(len(offsets)), key=offsets.__getitem__)
        return tuple([column[i] for i in order] for column in (offsets, infos, addends))  # type: ignore[return-value]

    def _slice(self, start: int, end: int) -> slice:
        offsets = self._columns[0]
        return slice(bisect_left(offsets, start), bisect_left(offsets, end))

    def words(self, start: int, end: int) -> list[int]:
        """The words of a range; what is left over at its end is the last one."""
        data = bytes(self.content[start:end])
        words = VARIANT.words(data).tolist()
        if rest := data[4 * len(words) :]:
            words.append(int.from_bytes(rest, VARIANT.byte_order))
        return words

    def references(self, start: int, end: int) -> list[tuple[Reference, ...]]:
        """The relocations of each word of a range."""
        found: list[tuple[Reference, ...]] = [()] * ((end - start + 3) // 4)
        offsets, infos, addends = self._columns
        for index in range(*self._slice(start, end).indices(len(offsets))):
            word, at = divmod(offsets[index] - start, 4)
            name = self.names.symbol(infos[index] >> 32)
            one = Reference(infos[index] & 0xFFFFFFFF, name, addends[index], at)
            found[word] = tuple(sorted((*found[word], one), key=attrgetter("order")))
        return found

    def keys(self, one: Range) -> list[Key]:
        words = self.words(one.start, one.end)
        sizes = [min(4, one.end - offset) for offset in range(one.start, one.end, 4)]
        return list(zip(words, sizes, self.references(one.start, one.end), strict=True))

    def same(self, one: Range, other: CodeSection, that: Range, *, same_symbols: bool) -> bool:
        """Whether two ranges have the same bytes and the same relocations."""
        if bytes(self.content[one.start : one.end]) != bytes(other.content[that.start : that.end]):
            return False
        ours, theirs = self._slice(one.start, one.end), other._slice(that.start, that.end)
        if same_symbols and one.start == that.start:
            return all(
                mine[ours] == other_column[theirs]
                for mine, other_column in zip(self._columns, other._columns, strict=True)
            )
        if ours.stop - ours.start != theirs.stop - theirs.start:
            return False
        return self.references(one.start, one.end) == other.references(that.start, that.end)
