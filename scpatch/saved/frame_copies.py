"""Stores to the TOC save doubleword by way of another register than r1.

A function with a frame of varying size reaches it by a register that it has set from r1
(`mr r31,r1`). Such a register may hold that anywhere in the function, whatever else it is set to:
the order of the code is not looked at. What is computed from r1 in another way than by a constant
is a pointer into the function's own variables, which does not lead to the frame's header (psABI).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import is_indexed_store, signed, stored
from scpatch.ppc64.variant import VARIANT

_ADDI, _ADDIS, _ORI, _EXTENDED, _OR = 14, 15, 24, 31, 444
_ANY: Final = 1 << 64
"""In the place of a distance from r1: one that is not known."""
_UPDATES: Final = frozenset({37, 39, 45, 53, 55})  # stwu, stbu, sthu, stfsu, stfdu
_DS_FORM, _STDU = 62, 1
_BEHIND: Final = VARIANT.toc_save + 8
"""Where the header ends: what starts in the function's own variables stays in them, whatever an
index or a step adds."""


def stores_by_copies(words: Sequence[int]) -> set[int]:
    """The indices of those words of a function that may store over 24(r1) by a register that was
    set from r1."""
    copies = _copies(words)
    if not copies:
        return set()
    reaching = {word for word in set(words) if _reaches(word, copies)}
    return {at for at, word in enumerate(words) if word in reaching} if reaching else set()


def _copies(words: Sequence[int]) -> dict[int, set[int]]:
    """Registers that may hold r1, and how many bytes more."""
    found: dict[int, set[int]] = {1: {0}}
    moves = [one for at, word in enumerate(words) for one in _moves(words, at, word)]
    changed = bool(moves)
    while changed:
        changed = False
        for to, source, distance in moves:
            # A sum of a sum would have no end in a loop: only what is r1 itself is added to.
            more = {distance} if source == 1 else found.get(source, set())
            if to != 1 and not more <= found.setdefault(to, set()):
                found[to] |= more
                changed = True
    del found[1]
    return {register: distances for register, distances in found.items() if distances}


def _moves(words: Sequence[int], at: int, word: int) -> Iterable[tuple[int, int, int]]:
    """(register, register, distance in bytes) of an instruction that sets the first one from r1 or
    to what the second one is."""
    opcode, first, second = word >> 26, word >> 21 & 31, word >> 16 & 31
    if opcode in (_ADDI, _ADDIS):
        distance = signed(word & 0xFFFF) << (16 if opcode == _ADDIS else 0)
        if at and insn.is_prefix(words[at - 1]):
            distance = _ANY  # paddi, whose distance lies in both words
        if second == 1 or (second and not distance):
            yield first, second, distance
    elif (opcode == _ORI and not word & 0xFFFF) or (
        opcode == _EXTENDED and word >> 1 & 0x3FF == _OR and word >> 11 & 31 == first
    ):
        yield second, first, 0


def _reaches(word: int, copies: dict[int, set[int]]) -> bool:
    opcode, base = word >> 26, word >> 16 & 31
    bases = copies.get(base, set()) if base else set()
    if opcode == _EXTENDED:
        bases = bases | copies.get(word >> 11 & 31, set())
        return is_indexed_store(word) and any(one < _BEHIND or one == _ANY for one in bases)
    if opcode in _UPDATES or (opcode == _DS_FORM and word & 3 == _STDU):
        step = signed(word & (0xFFFC if opcode == _DS_FORM else 0xFFFF))
        return any(one + step < _BEHIND or one == _ANY for one in bases)
    offset, size = stored(word)
    return size > 0 and any(
        -size < one + offset - VARIANT.toc_save < 8 or one == _ANY for one in bases
    )
