"""SHT_RELA tables as lazy columns, each one entry a relocation."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, compress

from scpatch.elf import constants as c
from scpatch.elf.encoding import Encoding
from scpatch.elf.structures import Relocation


class Relocations:
    """Relocations as columns."""

    def __init__(self, data: memoryview, encoding: Encoding) -> None:
        self.r_offset = encoding.column(data, "Q", 0, 3)
        self.r_info = encoding.column(data, "Q", 1, 3)
        self.symbol = encoding.upper_halves(data, 1, 3)
        """The upper half of r_info: an index in .symtab."""
        self.r_addend = encoding.column(data, "q", 2, 3)

    def __len__(self) -> int:
        return len(self.r_info)

    def __getitem__(self, index: int) -> Relocation:
        return Relocation(self.r_offset[index], self.r_info[index], self.r_addend[index])


class RelaTable(Relocations):
    """The relocations of one section."""

    def __init__(self, target: int, data: memoryview, encoding: Encoding) -> None:
        super().__init__(data, encoding)
        self.target = target
        """Its section index (`sh_info`)."""

    def between(self, start: int, end: int) -> Sequence[int]:
        """The indices of the relocations from one section offset to before another, by r_offset."""
        offsets, order = self._sorted
        return order[bisect_left(offsets, start) : bisect_left(offsets, end)]

    @cached_property
    def _sorted(self) -> tuple[Sequence[int], Sequence[int]]:
        """The values of r_offset, sorted, and their indices: the order that assemblers write."""
        offsets = self.r_offset.tolist()
        if offsets == (in_order := sorted(offsets)):
            return self.r_offset, range(len(offsets))
        return in_order, sorted(range(len(offsets)), key=offsets.__getitem__)


class LoadedRelocations(Relocations):
    """The relocations of many sections, one section after the other.

    An object has thousands of sections with a few relocations each. To look for those of interest
    in all of them at once is much faster than in one table after the other.
    """

    def __init__(self, contents: Mapping[int, bytes], encoding: Encoding) -> None:
        """`contents` are the entries that apply to each section."""
        super().__init__(memoryview(b"".join(contents.values())), encoding)
        self._targets = list(contents)
        lengths = (len(content) // c.RELA_SIZE for content in contents.values())
        self._starts = list(accumulate(lengths, initial=0))

    def naming(self, symbols: Container[int]) -> Iterator[int]:
        """The indices of the relocations against one of the symbols, sorted."""
        return compress(range(len(self)), map(symbols.__contains__, self.symbol))

    def by_section(self, indices: Iterable[int]) -> Iterator[tuple[int, int, list[int]]]:
        """(section index, index of its first relocation, those of the sorted `indices` that apply
        to it) of each section that has some."""
        left, at = list(indices), 0
        while at < len(left):
            number = bisect_right(self._starts, left[at]) - 1
            end = bisect_left(left, self._starts[number + 1], at)
            yield self._targets[number], self._starts[number], left[at:end]
            at = end
