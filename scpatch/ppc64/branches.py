"""Finds the branches in a code section that an assembler or linker has resolved itself.

A section can hold millions of words, and few of them are such branches. They are found a column of
bytes at a time, so that only they are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, compress

from scpatch.elf.encoding import Encoding
from scpatch.ppc64 import insn

_CONDITIONAL = bytes(byte >> 2 == 16 for byte in range(256))
_UNCONDITIONAL = bytes(byte >> 2 == 18 for byte in range(256))
"""For `bytes.translate`: whether an instruction of the B-form or the I-form starts with a byte."""

_REACH = 1 << 13
"""How many words away a B-form branch can lead."""
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
        targets = [at + ((words[at] & _LI ^ _SIGN) - _SIGN >> 2) for at in displaced]
        near = [-_REACH <= to < len(words) + _REACH for to in targets]
        self._sources = [*conditional, *compress(displaced, near)]
        self._targets = [at + (halves[at] >> 2) + _REACH for at in conditional]
        self._targets += [to + _REACH for to in compress(targets, near)]
        """Indices of words, and `_REACH` more; those of absolute branches mean nothing."""
        self._far = [
            (to, at)
            for to, at, is_near in zip(targets, displaced, near, strict=True)
            if not is_near
        ]

    def into(self, ranges: Collection[tuple[int, int]], past: int = 0) -> list[tuple[int, int]]:
        """(target, branch) of every relative branch into one of the ranges, sorted.

        All numbers are section offsets in bytes; a range is (start, end), and what is of it in the
        code counts, or up to `past` bytes past its end. A branch to itself is left out: that is
        what a branch with a relocation looks like.
        """
        words, targets, count = self.words, self._targets, len(self.words) + past // 4
        limits = [(start // 4, min(-(-end // 4), count)) for start, end in ranges]
        wanted = bytearray(len(words) + 2 * _REACH)
        for start, end in limits:
            first, last = start + _REACH, min(end + _REACH, len(wanted))
            wanted[first:last] = b"\1" * (last - first)
        hits = compress(zip(targets, self._sources, strict=True), map(wanted.__getitem__, targets))
        found = [(to - _REACH, at) for to, at in hits]
        found += [pair for pair in self._far if any(a <= pair[0] < b for a, b in limits)]
        return sorted(
            (4 * to, 4 * at) for to, at in found if to != at and not insn.is_absolute(words[at])
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
