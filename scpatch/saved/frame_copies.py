"""Stores to the TOC save doubleword through another register than r1.

A function whose frame varies in size reaches it through a register that it has set from r1
(`mr r31,r1`). Such a register may hold that anywhere in the function, whatever else it is set to:
the order of the code is not looked at. What is computed from r1 by anything but a constant is a
pointer into the function's own variables, which does not lead to the frame's header (psABI).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import overlaps_save, store
from scpatch.ppc64.variant import TOC_SAVE

_ADDI, _ADDIS, _ORI, _EXTENDED, _OR = 14, 15, 24, 31, 444
_MOVING: Final = frozenset({_ADDI, _ADDIS, _ORI, _EXTENDED})
_ANY: Final = 1 << 64
"""In the place of a distance from r1: an unknown one."""
_HEADER_END: Final = TOC_SAVE + 8
"""What starts in the function's own variables stays in them, whatever an index or a step adds."""


def stores_by_copies(words: Sequence[int]) -> set[int]:
    """The indices of those words of a function that may store over 24(r1) through a register that
    was set from r1."""
    copies = _copies(words)
    if not copies:
        return set()
    reaching = {word for word in set(words) if _reaches(word, copies)}
    return {at for at, word in enumerate(words) if word in reaching} if reaching else set()


def _copies(words: Sequence[int]) -> dict[int, set[int]]:
    """Registers that may hold r1, and how many bytes more."""
    copies: dict[int, set[int]] = {1: {0}}
    moves = [
        move
        for at, word in enumerate(words)
        if word >> 26 in _MOVING
        for move in _moves(words, at, word)
    ]
    changed = bool(moves)
    while changed:
        changed = False
        for to, source, distance in moves:
            # A sum of a sum would have no end in a loop: only what is r1 itself is added to.
            more = {distance} if source == 1 else copies.get(source, set())
            if to != 1 and not more <= copies.setdefault(to, set()):
                copies[to] |= more
                changed = True
    del copies[1]
    return {register: distances for register, distances in copies.items() if distances}


def _moves(words: Sequence[int], at: int, word: int) -> Iterable[tuple[int, int, int]]:
    """(register, register, distance in bytes) of an instruction that sets the first one from r1 or
    to what the second one is."""
    opcode, first, second = word >> 26, word >> 21 & 31, word >> 16 & 31
    if opcode in (_ADDI, _ADDIS):
        distance = insn.signed(word & 0xFFFF, 16) << (16 if opcode == _ADDIS else 0)
        if at and insn.is_prefix(words[at - 1]):
            distance = _ANY  # paddi, whose distance is in both words
        if second == 1 or (second and not distance):
            yield first, second, distance
    elif (opcode == _ORI and not word & 0xFFFF) or (
        opcode == _EXTENDED and word >> 1 & 0x3FF == _OR and word >> 11 & 31 == first
    ):
        yield second, first, 0


def _reaches(word: int, copies: dict[int, set[int]]) -> bool:
    stores, base = store(word), word >> 16 & 31
    if stores is None:
        return False
    distances = copies.get(base, set()) if base else set()
    if stores.is_indexed:
        distances = distances | copies.get(word >> 11 & 31, set())
    if _ANY in distances:
        return True
    if stores.is_indexed or stores.updates:
        return any(distance + stores.displacement < _HEADER_END for distance in distances)
    return any(overlaps_save(stores, distance) for distance in distances)
