"""Finds the branches in a code section that an assembler or linker has resolved itself.

A section can hold millions of words, and few of them are such branches. They are found a column of
bytes at a time, so that only they are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from scpatch.elf.encoding import Encoding
from scpatch.ppc64 import insn

_CONDITIONAL = bytes(byte >> 2 == 16 for byte in range(256))
_UNCONDITIONAL = bytes(byte >> 2 == 18 for byte in range(256))
"""For `bytes.translate`: whether an instruction of the B-form or the I-form starts with a byte."""

_LI, _SIGN = 0x3FFFFFC, 0x2000000
"""The displacement of an I-form branch, in bytes, and the sign in it."""


class Branches:
    """The relative branches of a code section, as its words say where they lead."""

    def __init__(self, code: memoryview, encoding: Encoding) -> None:
        data = bytes(code[: len(code) // 4 * 4])
        self.words = words = encoding.words(data)
        # The lower halves are displacements in bytes, and the bits AA and LK.
        halves = encoding.column(memoryview(data), "h", encoding.half // 2, 2)
        conditional = _starting(data, encoding, _CONDITIONAL)
        displaced = _displaced(words, _starting(data, encoding, _UNCONDITIONAL))
        self._sources = conditional + displaced
        self._targets = [at + (halves[at] >> 2) for at in conditional]
        self._targets += [at + ((words[at] & _LI ^ _SIGN) - _SIGN >> 2) for at in displaced]
        """Indices of words; those of absolute branches mean nothing."""

    def into(self, ranges: Iterable[tuple[int, int]], past: int = 0) -> list[tuple[int, int]]:
        """(target, branch) of every relative branch into one of the ranges, sorted.

        All numbers are section offsets in bytes; a range is (start, end), and what is of it in the
        code counts, or up to `past` bytes past its end. A branch to itself is left out: that is
        what a branch with a relocation looks like.
        """
        words, count = self.words, len(self.words) + past // 4
        wanted = bytearray(count)
        for start, end in ranges:
            first, last = start // 4, min(-(-end // 4), count)
            wanted[first:last] = b"\1" * (last - first)
        return sorted(
            (4 * to, 4 * at)
            for to, at in zip(self._targets, self._sources, strict=True)
            if 0 <= to < count and wanted[to] and to != at and not insn.is_absolute(words[at])
        )


def branches(code: memoryview, encoding: Encoding) -> list[tuple[int, int]]:
    """(target, branch) of every `b` and `bl` in `code`, whatever it leads to, in the order of the
    branches; section offsets in bytes. One to itself is left out, as above."""
    data = bytes(code[: len(code) // 4 * 4])
    words = encoding.words(data)
    return list(_targets(words, _displaced(words, _starting(data, encoding, _UNCONDITIONAL))))


def _targets(words: Sequence[int], indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    for index in indices:
        target = insn.direct_target(words[index], 4 * index)
        if target is not None:
            yield target, 4 * index


def _starting(data: bytes, encoding: Encoding, table: bytes) -> list[int]:
    """The indices of the words whose first byte has a 1 in `table`."""
    ones = encoding.byte_of_words(data, 0).translate(table)
    gaps = accumulate(map(len, ones.split(b"\1")))
    return [zeros + before for before, zeros in enumerate(gaps)][:-1]


def _displaced(words: Sequence[int], indices: Iterable[int]) -> list[int]:
    """Those of some I-form branches that have a displacement. Most have none yet: a relocation
    fills it in."""
    return [at for at in indices if words[at] & _LI]
