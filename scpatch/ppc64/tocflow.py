"""Whether r2 lies in the TOC save doubleword of the live frame, on every path to an instruction.

A forward data-flow analysis over one function. At each instruction two facts are known or not:
r2 holds the function's own TOC pointer (`own`), and 24(r1) holds it too, in the frame that r1
points at now (`saved`). Where paths meet, only what holds on all of them stays. Everything that
the analysis cannot see counts against it: code that nothing seems to reach may be entered from
anywhere with nothing known, and an unknown instruction may change both registers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import NONE, effects


class Known(NamedTuple):
    """What holds just before an instruction."""

    own: bool
    saved: bool


NOTHING = Known(own=False, saved=False)
ALL = Known(own=True, saved=True)


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


def saved_at(function: Function, places: Iterable[int]) -> set[int]:
    """Those of `places` (section offsets of calls) where r2 is own and saved on every path."""
    known = _Flow(function).run()
    return {place for place in places if known.get(place) == ALL}


class _Flow:
    """The work list of one analysis."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._end = function.start + len(function.code) // 4 * 4
        words = memoryview(function.code[: self._end - function.start]).cast("I")
        self._words = {function.start + 4 * i: word for i, word in enumerate(words)}
        self._jumps = [
            place
            for place, word in self._words.items()
            if insn.is_indirect(word) and not insn.links(word) and not insn.is_through_lr(word)
        ]
        self._known: dict[int, Known] = {}
        self._edges: dict[int, list[int]] = {}
        for source, target in function.edges:
            self._edges.setdefault(source, []).append(target)

    def run(self) -> dict[int, Known]:
        """Known facts by section offset; empty where the code cannot be followed."""
        function = self._function
        self._flow({function.entry: Known(own=True, saved=False)})
        self._flow(dict.fromkeys(self._within(function.entries), NOTHING))
        while unreached := self._unreached():
            jumps = self._computed_jumps()
            # A computed jump may go anywhere in the function, and brings what is known there.
            seed = ALL if jumps else NOTHING
            self._flow(dict.fromkeys(unreached, seed))
        if any(self._known[jump] != ALL for jump in self._computed_jumps()):
            return {}
        return self._known

    def _within(self, places: Iterable[int]) -> Iterable[int]:
        return [place for place in places if place in self._words]

    def _computed_jumps(self) -> list[int]:
        """Reached branches through CTR that are no calls: switch tables, computed gotos."""
        return [place for place in self._jumps if place in self._known]

    def _unreached(self) -> list[int]:
        """Code that no path has reached, padding left out."""
        return [
            place
            for place, word in self._words.items()
            if place not in self._known and not _is_padding(word) and place >= self._function.entry
        ]

    def _flow(self, seeds: Mapping[int, Known]) -> None:
        """Spreads facts from `seeds` until nothing changes any more."""
        work = []
        for place, known in seeds.items():
            work += self._meet(place, known)
        while work:
            place = work.pop()
            for target, known in self._successors(place, self._known[place]):
                work += self._meet(target, known)

    def _meet(self, place: int, known: Known) -> list[int]:
        if place not in self._words:
            return []
        old = self._known.get(place)
        new = known if old is None else Known(old.own and known.own, old.saved and known.saved)
        if new == old:
            return []
        self._known[place] = new
        return [place]

    def _successors(self, place: int, before: Known) -> list[tuple[int, Known]]:
        word = self._words[place]
        # A fault or a jump label leaves before the instruction has done its work.
        found = [(target, before) for target in self._edges.get(place, ())]
        if insn.transfers(word):
            target = self._target(place, word)
            after = self._after_call(place, word, before) if insn.links(word) else before
            if target is not None and not self._is_recursion(word, target):
                found.append((target, before))
            if insn.falls_through(word):
                found.append((place + 4, after))
            return found
        size = 8 if insn.is_prefix(word) else 4
        found.append((place + size, _after(word, before)))
        return found

    def _is_recursion(self, word: int, target: int) -> bool:
        """Whether a branch calls the function as anybody else would, with its own r2."""
        return insn.links(word) and target in (self._function.start, self._function.entry)

    def _target(self, place: int, word: int) -> int | None:
        if place in self._function.relocated:
            return self._function.relocated[place]
        return insn.direct_target(word, place)

    def _after_call(self, place: int, word: int, before: Known) -> Known:
        """A call into the own unit gives r2 back, one through a pointer may not.

        With a foreign r2 at the call, a linker's stub may store that one into 24(r1).
        """
        if insn.is_indirect(word):
            return Known(own=False, saved=before.saved)
        if place in self._function.foreign_after:
            return Known(own=False, saved=before.saved and before.own)
        return Known(own=before.own, saved=before.saved and before.own)


def _is_padding(word: int) -> bool:
    """nop in any of its forms that compilers pad with: `ori N,N,0`; and zero."""
    register = (word >> 21) & 31
    return word == 0 or word == 0x60000000 | register << 21 | register << 16


def _after(word: int, before: Known) -> Known:
    """The facts behind an instruction that is no branch."""
    if word == insn.STD_R2:
        return Known(before.own, before.own)
    if word == insn.LD_R2:
        return Known(before.saved, before.saved)
    changed = effects(word)
    if changed is NONE:
        return before
    own = before.own and not changed.r2
    return Known(own, before.saved and not (changed.r1 or changed.save))
