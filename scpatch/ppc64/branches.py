"""Finds the branches in a code section that an assembler or linker has resolved itself.

A section can hold millions of words, and few of them are such branches. They are found a column of
bytes at a time, so that only they are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, compress

from scpatch.elf.encoding import Encoding
from scpatch.ppc64 import insn

_CONDITIONAL = bytes(byte >> 2 == 16 for byte in range(256))
_UNCONDITIONAL = bytes(byte >> 2 == 18 for byte in range(256))
"""For `bytes.translate`: whether an instruction of the B-form or the I-form starts with a byte."""

_NOT_ZERO = bytes(byte > 0 for byte in range(256))
_FIRST_BYTE, _LAST_BYTE = (bytes(byte & bits > 0 for byte in range(256)) for bits in (3, 0xFC))
"""Whether a byte of an I-form branch has a part of its displacement that is not zero."""


class Branches:
    """The relative branches of a code section, as its words say where they lead."""

    def __init__(self, code: memoryview, encoding: Encoding) -> None:
        data = bytes(code[: len(code) // 4 * 4])
        self.words = words = encoding.words(data)
        is_conditional = encoding.byte_of_words(data, 0).translate(_CONDITIONAL)
        # They are many. Their lower halves are displacements in bytes, and the bits AA and LK.
        conditional = list(compress(range(len(words)), is_conditional))
        halves = encoding.column(memoryview(data), "h", encoding.half // 2, 2)
        displaced = _ones(_displaced(data, encoding))
        self._sources = conditional + displaced
        self._targets = [
            at + (half >> 2)
            for at, half in zip(conditional, compress(halves, is_conditional), strict=True)
        ]
        self._targets += [
            at + (((words[at] & 0x3FFFFFC) ^ 0x2000000) - 0x2000000 >> 2) for at in displaced
        ]
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
    return list(_targets(encoding.words(data), _ones(_displaced(data, encoding))))


def _targets(words: Sequence[int], indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    for index in indices:
        target = insn.direct_target(words[index], 4 * index)
        if target is not None:
            yield target, 4 * index


def _displaced(data: bytes, encoding: Encoding) -> bytes:
    """A 1 for each word that is an I-form branch away from itself, a 0 for the others."""

    def mask(column: int, table: bytes) -> int:
        return int.from_bytes(encoding.byte_of_words(data, column).translate(table))

    moves = mask(0, _FIRST_BYTE) | mask(1, _NOT_ZERO) | mask(2, _NOT_ZERO) | mask(3, _LAST_BYTE)
    return (moves & mask(0, _UNCONDITIONAL)).to_bytes(len(data) // 4)


def _ones(mask: bytes) -> list[int]:
    """The indices of the ones in a mask."""
    gaps = accumulate(map(len, mask.split(b"\1")))
    return [zeros + ones for ones, zeros in enumerate(gaps)][:-1]
