"""Branches without a relocation, found by decoding a section's instructions.

An assembler that knows the distance of two places in one section writes it into the branch.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Iterator

from scpatch.verifier.objects.insn import target

_BRANCHES = frozenset((*range(0x40, 0x44), *range(0x48, 0x4C)))
"""The last bytes, in memory, of the B-form and the I-form: primary opcodes 16 and 18."""


def branches_to(words: array[int], places: Collection[int]) -> Iterator[tuple[int, int]]:
    """(branch, target) of the branches to one of `places`; all are section offsets in bytes. A
    branch with a relocation looks like a branch to itself."""
    last_bytes = words.tobytes()[3 if sys.byteorder == "little" else 0 :: 4]
    for at in [number for number, byte in enumerate(last_bytes) if byte in _BRANCHES]:
        to = target(words[at], 4 * at)
        if to in places and to is not None and to != 4 * at:
            yield 4 * at, to
