"""Finds the branches of a code section that an assembler has resolved itself, without a relocation.

A section can hold millions of words, so that they are looked at a column at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress

from scpatch.ppc64 import insn

_CONDITIONAL = bytes(byte >> 2 == 16 for byte in range(256))
_UNCONDITIONAL = bytes(byte >> 2 == 18 for byte in range(256))
"""For `bytes.translate`: whether an instruction of the B-form or the I-form starts with a byte."""

_REACH = 0x2000
"""A B-form branch reaches so many words in both directions."""


def branches_into(code: memoryview, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(target, branch) of every relative branch in `code` into one of the ranges, sorted.

    All numbers are section offsets in bytes; a range is (start, end). A branch to itself is none:
    that is what a branch looks like that a relocation directs.
    """
    count = len(code) // 4
    words = code[: 4 * count].cast("I")
    # Room at both ends makes an index of every place that a conditional branch can reach.
    wanted = bytearray(count + 2 * _REACH)
    for start, end in ranges:
        first, last = _REACH + start // 4, _REACH + min(-(-end // 4), count)
        wanted[first:last] = b"\1" * (last - first)
    first_bytes = bytes(code[3 : 4 * count : 4])

    def chosen(mask: bytes) -> Iterable[tuple[int, int]]:
        return zip(compress(range(count), mask), compress(words, mask), strict=True)

    found = [
        at
        for at, word in chosen(first_bytes.translate(_CONDITIONAL))
        if wanted[_REACH + at + (((word & 0xFFFC) ^ 0x8000) - 0x8000 >> 2)]
    ]
    found += [
        at
        for at, word in chosen(first_bytes.translate(_UNCONDITIONAL))
        if word & 0x3FFFFFC
        and 0 <= (to := at + (((word & 0x3FFFFFC) ^ 0x2000000) - 0x2000000 >> 2)) < count
        and wanted[_REACH + to]
    ]
    targets = ((insn.direct_target(words[at], 4 * at), 4 * at) for at in found)
    return sorted((to, at) for to, at in targets if to is not None and to != at)
