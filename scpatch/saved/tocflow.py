"""Whether r2 lies in the TOC save doubleword of the live frame, on every path to an instruction.

A forward data-flow analysis over one function. At each instruction three facts are known or not:
r2 holds the function's own TOC pointer (OWN), 24(r1) holds it too, in the frame that r1 points at
now (SAVED), and that frame is the function's own, not its caller's (FRAMED). Where paths meet, only
what holds on all of them stays. Everything that the analysis cannot see counts against it: code
that nothing seems to reach may be entered from anywhere with nothing known, and an unknown
instruction may change both registers.

An instruction that somebody may still change is not what its word says. What it saves, restores
or pushes is not counted on, and control may run on behind it; what it destroys is destroyed.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import effects
from scpatch.ppc64.variant import VARIANT
from scpatch.saved.frame_copies import stores_by_copies

OWN: Final = 1
SAVED: Final = 2
FRAMED: Final = 4
"""What may be known just before an instruction: a set of bits."""

_NOTHING: Final = 0
_ALL: Final = OWN | SAVED | FRAMED
_NEEDED: Final = OWN | SAVED
_UNREACHED: Final = -1

_BRANCHES: Final = frozenset({0, 16, 18, 19})
"""Primary opcodes of all that transfers control, or stops it: the word zero is no instruction."""


class Function(NamedTuple):
    """What the analysis is told about a function. Offsets are section offsets in bytes."""

    code: bytes
    start: int
    """Section offset of `code`."""
    entry: int
    """Section offset of the local entry point, where r2 is the function's own."""
    relocated: Mapping[int, int | None] = MappingProxyType({})
    """Branches with a relocation -> the section offset that they go to, None for elsewhere."""
    entries: Collection[int] = ()
    """Where control may come from outside with nothing known: labels that are taken, symbols."""
    edges: Collection[tuple[int, int]] = ()
    """Transfers that the code does not show: (instruction, target)."""
    foreign_after: Collection[int] = ()
    """Calls that come back with a foreign r2."""
    saving: Collection[int] = ()
    """Calls on whose way r2 is stored in 24(r1), and behind which it is loaded from there."""
    unsaved: Collection[int] = ()
    """Calls behind which it is loaded from there if it is there already; else they come back with a
    foreign r2."""
    unsure: Collection[int] = ()
    """Instructions that may be nops when the code runs: a linker or the kernel may change them."""
    unknown: Collection[int] = ()
    """Instructions that may be anything when the code runs."""


def saved_at(function: Function, places: Iterable[int]) -> set[int]:
    """Those of `places` (section offsets of calls) where r2 is own and saved on every path."""
    flow = Flow(function)
    return {place for place in places if flow.holds(place, _NEEDED)}


class Flow:
    """The analysis of one function, done."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._start = function.start
        self.words = VARIANT.words(function.code)
        self._known = [_UNREACHED] * len(self.words)
        self._edges: dict[int, list[int]] = {}
        for source, target in function.edges:
            self._edges.setdefault(source, []).append(target)
        self._unknown = frozenset(function.unknown)
        self._unsure = {at for at in function.unsure if _may_add(self.words, self._index(at))}
        self._stores = stores_by_copies(self.words)
        self._special = {self._index(at) for at in (*self._edges, *self._unknown, *self._unsure)}
        self._special |= self._stores
        self._jumps_known = self._run()

    def holds(self, place: int, facts: int) -> bool:
        """Whether all of `facts` hold whenever control is about to execute the instruction at the
        section offset `place`."""
        return self.seems(place, facts & self._jumps_known) and not facts & ~self._jumps_known

    def seems(self, place: int, facts: int) -> bool:
        """The same, were all of them known at each computed jump."""
        at = self._index(place)
        if not 0 <= at < len(self.words) or self._known[at] == _UNREACHED:
            return False
        return self._known[at] & facts == facts

    def _index(self, place: int) -> int:
        return place - self._start >> 2

    def _run(self) -> int:
        """Finds what is known everywhere; returns what of it holds.

        A computed jump may go anywhere in the function, and brings what is known there: what is
        not known at one of them is known nowhere.
        """
        function = self.function
        self._spread([(function.entry, OWN)])
        self._spread([(place, _NOTHING) for place in function.entries])
        while unreached := self._unreached():
            seed = _ALL if self.computed_jumps else _NOTHING
            self._spread([(place, seed) for place in unreached])
        holds = [self._known[self._index(jump)] for jump in self.computed_jumps]
        if any(known & _NEEDED != _NEEDED for known in holds):
            return _NOTHING
        return _ALL & ~FRAMED if any(not known & FRAMED for known in holds) else _ALL

    @property
    def computed_jumps(self) -> list[int]:
        """Section offsets of reached branches through CTR that are no calls: switch tables,
        computed gotos."""
        return [
            self._start + 4 * at
            for at, word in enumerate(self.words)
            if word >> 26 == 19
            and self._known[at] != _UNREACHED
            and insn.is_indirect(word)
            and not insn.links(word)
            and not insn.is_through_lr(word)
        ]

    def _unreached(self) -> list[int]:
        """Section offsets of code that no path has reached, padding left out."""
        first = max(self._index(self.function.entry), 0)
        return [
            self._start + 4 * at
            for at in range(first, len(self.words))
            if self._known[at] == _UNREACHED
            and (at in self._special or not insn.is_padding(self.words[at]))
        ]

    def _spread(self, work: list[tuple[int, int]]) -> None:
        """Spreads facts from (section offset, facts) until nothing changes any more."""
        known, words, special = self._known, self.words, self._special
        while work:
            place, facts = work.pop()
            at = place - self._start >> 2
            while 0 <= at < len(words):
                old = known[at]
                if old != _UNREACHED:
                    facts &= old
                    if facts == old:
                        break
                known[at] = facts
                word = words[at]
                if word >> 26 in _BRANCHES or at in special:
                    place = self._start + 4 * at
                    found = list(self._successors(place, word, facts))
                    if not found:
                        break
                    work += found[:-1]
                    place, facts = found[-1]
                    at = place - self._start >> 2
                else:
                    facts = _after(word, facts)
                    at += 2 if word >> 26 == 1 else 1

    @property
    def uses_the_slot(self) -> bool:
        """Whether the function may keep something else than r2 in 24(r1)."""
        return bool(self._stores) or any(
            effects(word).save and word != VARIANT.save_r2 and not insn.transfers(word)
            for word in set(self.words)
        )

    def transfers(self) -> Iterator[tuple[int, int, int]]:
        """(from, to, what is known there by this way) of each reached instruction that may pass
        control on to elsewhere than the next one, that way to the next one included."""
        for at, word in enumerate(self.words):
            if (word >> 26 in _BRANCHES or at in self._special) and self._known[at] != _UNREACHED:
                place = self._start + 4 * at
                for target, facts in self._successors(place, word, self._known[at]):
                    yield place, target, facts

    def before(self, place: int) -> tuple[int, int] | None:
        """(from, what is known by this way) of the instruction before, where that one is reached
        and passes control on to `place` only."""
        at = self._index(place) - 1
        if at < 0 or self._known[at] == _UNREACHED:
            return None
        word = self.words[at]
        if word >> 26 in _BRANCHES or at in self._special:
            return None
        return place - 4, _after(word, self._known[at])

    def _successors(self, place: int, word: int, before: int) -> Iterator[tuple[int, int]]:
        # A fault or a jump label leaves before the instruction has done its work.
        for other in self._edges.get(place, ()):
            yield other, before
        if place in self._unknown:
            yield place + 4, _NOTHING
        elif place in self._unsure:
            yield place + 4, before
        elif word == 0:
            return
        if not insn.transfers(word):
            after = _after(word, before)
            if self._index(place) in self._stores:
                after &= ~SAVED
            yield place + (8 if insn.is_prefix(word) else 4), after
            return
        target = self._target(place, word)
        if target is not None and not self._is_recursion(word, target):
            yield target, before
        if insn.falls_through(word):
            after = self._after_call(place, word, before) if insn.links(word) else before
            yield place + 4, after

    def _is_recursion(self, word: int, target: int) -> bool:
        """Whether a branch calls the function as anybody else would, with its own r2."""
        return insn.links(word) and target in (self.function.start, self.function.entry)

    def _target(self, place: int, word: int) -> int | None:
        if place in self.function.relocated:
            return self.function.relocated[place]
        return insn.direct_target(word, place)

    def _after_call(self, place: int, word: int, before: int) -> int:
        """A call into the own unit gives r2 back, one through a pointer may not.

        With a foreign r2 at the call, a linker's stub may store that one into 24(r1).
        """
        frame = before & FRAMED
        if place in self.function.saving:
            return frame | (OWN | SAVED if before & OWN else _NOTHING)
        if insn.is_indirect(word):
            return frame | before & SAVED
        if not before & OWN:
            return frame
        if place in self.function.foreign_after:
            return frame | before & SAVED
        if place in self.function.unsaved and not before & SAVED:
            return frame
        return before


def _may_add(words: array[int], at: int) -> bool:
    """Whether more may be known behind an instruction, or less of the code be reached from it, than
    if it were a nop."""
    if not 0 <= at < len(words):
        return False
    word = words[at]
    return (
        word in (0, VARIANT.save_r2, VARIANT.restore_r2)
        or insn.transfers(word)
        or insn.pushes(word)
    )


@cache
def _after(word: int, before: int) -> int:
    """The facts behind an instruction that is no branch."""
    if word == VARIANT.save_r2:
        return before | SAVED if before & OWN else before & ~SAVED
    if word == VARIANT.restore_r2:
        return before | OWN if before & SAVED else before & ~OWN
    changed = effects(word)
    if changed.r2:
        before &= ~OWN
    if changed.r1 or changed.save:
        before &= ~SAVED
    if changed.r1:
        before = before | FRAMED if insn.pushes(word) else before & ~FRAMED
    return before
