"""Trampolines that keep r2 on the livepatch stack, and what was done to make them do so.

A trampoline goes to a target with another TOC by `mtctr r12; bctr`. It keeps r2 if it ends in a
branch to code that saves LR and r2 instead (`livepatch_code`), and nothing in it writes r1, r2 or
LR before. Then no call of it needs anything, of whatever form it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from scpatch.verifier.objects import record
from scpatch.verifier.objects.calls import Calls
from scpatch.verifier.objects.insn import Effect, Flow, effect, flow, target
from scpatch.verifier.objects.read import STB_WEAK, STT_FUNC, Place
from scpatch.verifier.objects.trampolines import Trampoline
from scpatch.verifier.objects.variant import B
from scpatch.verifier.reasons.livepatch_code import Code, follow

NAME: Final = "livepatch-stack"
SYMBOL: Final = re.compile(r"r2lps\.[0-9a-f]{12}")
_HIDDEN = 2
_MTCTR_R12, _BCTR = 0x7D8903A6, 0x4E800420
_MTLR, _WITHOUT_REGISTER = 0x7C0803A6, 0xFC1FFFFF
_LOCAL_ENTRY = (0, 0, 4, 8, 16, 32, 64)
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Kept:
    """How a trampoline comes to a target with another TOC. Numbers are section offsets."""

    fault: str
    """Why r2 is not kept; empty where it is."""
    start: int = 0
    """The first instruction of the way that loads the target's address."""
    branches: tuple[tuple[int, int], ...] = ()
    """(branch, code) for each branch to code that keeps LR and r2."""


@dataclass(frozen=True, eq=False)
class Keepers:
    """The trampolines of one object."""

    calls: Calls

    @cached_property
    def noted(self) -> bool:
        """Whether the object says that it was rewritten this way."""
        return NAME in record.strategies(self.calls.image)

    @cached_property
    def _kept(self) -> dict[Place, Kept]:
        return {}

    @cached_property
    def _codes(self) -> dict[Place, Code | str]:
        return {}

    def kept(self, trampoline: Trampoline) -> Kept:
        """How a trampoline that the object defines keeps r2."""
        if trampoline.place not in self._kept:
            self._kept[trampoline.place] = self._read(trampoline)
        return self._kept[trampoline.place]

    @cached_property
    def all(self) -> dict[Place, Kept]:
        """All defined trampolines that keep r2."""
        found = {
            place: self.kept(named[0])
            for place, named in self.calls.trampolines.items()
            if place.section and not named[0].is_data and not named[0].is_indirect
        }
        return {place: kept for place, kept in found.items() if not kept.fault}

    def way(self, trampoline: Trampoline) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of a trampoline that keeps r2, in its section: where the way to another TOC begins and
        the branch that ends it; offset and size of the code behind that."""
        kept = self.kept(trampoline)
        branch, to = kept.branches[0]
        code = self.code(Place(trampoline.place.section, to))
        assert isinstance(code, Code)
        return (kept.start, branch), (to, code.size)

    def code(self, place: Place) -> Code | str:
        """What the code at a place does; a sentence where it keeps nothing."""
        if place not in self._codes:
            self._codes[place] = self._follow(place)
        return self._codes[place]

    def _follow(self, place: Place) -> Code | str:
        size = self.calls.image.sections[place.section].size
        places = [
            Place(place.section, at)
            for at in range(place.offset, min(place.offset + 4 * _LONGEST, size - 3), 4)
        ]
        found = follow([self.calls.word(one) for one in places])
        if isinstance(found, Code):
            for one in places[: found.size // 4]:
                if self._is_relocated(one):
                    return "a relocation changes its instructions"
        return found

    def _is_relocated(self, place: Place) -> bool:
        return place in self.calls.branches or place in self.calls.other_relocations

    def _read(self, trampoline: Trampoline) -> Kept:
        symbol, start = trampoline.symbol, trampoline.place
        if not symbol.size or start.offset % 4 or symbol.other >> 5 in (1, 7):
            return Kept("its trampoline has no size, or does not promise to keep r2")
        end = min(start.offset + symbol.size, self.calls.image.sections[start.section].size)
        within = range(start.offset, end & ~3, 4)
        local = start.offset + _LOCAL_ENTRY[symbol.other >> 5]
        branches = []
        for at in within:
            place = Place(start.section, at)
            if self._is_relocated(place):
                continue
            word = self.calls.word(place)
            to = target(word, at) if flow(word) is Flow.JUMP else None
            if to is not None and to not in within:
                branches.append((at, to))
            elif word >> 26 == 19 and word >> 1 & 0x3FF in (528, 560):
                return Kept(f"its trampoline leaves at {self.calls.image.where(place)} for good")
        return self._judge(start, local, branches)

    def _judge(self, start: Place, local: int, branches: list[tuple[int, int]]) -> Kept:
        """The verdict on a trampoline that leaves by `branches`, from its local entry `local`."""
        last, ways = local, []
        for at, to in branches:
            before = Place(start.section, at - 4)
            if self.calls.word(before) != _MTCTR_R12 or self._is_relocated(before):
                continue  # a branch straight to a target in this section, which shares the TOC
            code = self.code(Place(start.section, to))
            if isinstance(code, str):
                return Kept(f"its trampoline goes on at {self._where(start, to)}: {code}")
            last = at
            ways.append((at, to))
        if not ways:
            return Kept("its trampoline has no way to another TOC that keeps r2")
        for at in range(local, last, 4):
            if self._spoils(self.calls.word(Place(start.section, at))):
                return Kept(f"{self._where(start, at)} may write r1, r2 or LR")
        return Kept("", self._way(start.section, local, ways[0][0]), tuple(ways))

    def _where(self, start: Place, at: int) -> str:
        return self.calls.image.where(Place(start.section, at))

    def _spoils(self, word: int) -> bool:
        kind = flow(word)
        if kind is not Flow.NEXT:
            return kind in (Flow.CALL, Flow.INDIRECT_CALL)
        touched = (Effect.WRITES_R2, Effect.MOVES_R1, Effect.RESTORE, Effect.UNKNOWN)
        return effect(word) in touched or word & _WITHOUT_REGISTER == _MTLR

    def _way(self, section: int, local: int, end: int) -> int:
        """Where the straight way to the branch at `end` begins: behind the last instruction that
        leaves the trampoline, or the local entry."""
        for at in range(end - 4, local - 4, -4):
            if flow(self.calls.word(Place(section, at))) is not Flow.NEXT:
                return at + 4
        return local


@dataclass(frozen=True, eq=False)
class Change:
    """What the second object has, or has otherwise, for trampolines that keep r2."""

    before: Calls
    after: Calls

    @cached_property
    def keepers(self) -> Keepers:
        return Keepers(self.after)

    @cached_property
    def applied(self) -> bool:
        """Whether the second object, and not the first, says that it was rewritten this way."""
        return self.keepers.noted and not Keepers(self.before).noted

    @cached_property
    def branches(self) -> dict[Place, Place]:
        """The branches that were a `bctr`, and the code that they lead to."""
        found = {}
        for start, kept in self.keepers.all.items() if self.keepers.noted else ():
            for at, to in kept.branches:
                place = Place(start.section, at)
                if self.before.word(place) == _BCTR and self.after.word(place) & ~0x3FFFFFC == B:
                    found[place] = Place(start.section, to)
        return found

    @cached_property
    def added(self) -> dict[int, dict[int, int]]:
        """The sizes of the appended code, by section and section offset."""
        found: dict[int, dict[int, int]] = {}
        for place in self.branches.values():
            code = self.keepers.code(place)
            if place.offset >= self.before.image.sections[place.section].size:
                assert isinstance(code, Code)
                found.setdefault(place.section, {})[place.offset] = code.size
        return found

    @cached_property
    def symbols(self) -> frozenset[int]:
        """The numbers of the symbols that name the appended code as they should."""
        old_names = {symbol.name for symbol in self.before.image.symbols}
        return frozenset(
            symbol.number
            for symbol in self.after.image.symbols[len(self.before.image.symbols) :]
            if symbol.size == self.added.get(symbol.section, {}).get(symbol.value)
            and symbol.info == STB_WEAK << 4 | STT_FUNC
            and symbol.other == _HIDDEN
            and SYMBOL.fullmatch(symbol.name)
            and symbol.name not in old_names
        )

    def check(self, *, changed: bool) -> Iterator[str]:
        """One sentence for each thing that is not as this strategy leaves it. `changed`: whether
        a call was changed."""
        if not self.applied:
            return
        image = self.after.image
        if changed:
            yield f"a call was changed, which {NAME} does not do."
        named = [self.after.image.symbols[number] for number in sorted(self.symbols)]
        pieces = {(section, at) for section, codes in self.added.items() for at in codes}
        if {(one.section, one.value) for one in named} != pieces or len(named) != len(pieces):
            yield "the code that keeps r2 has not one symbol for each piece."
        for place in self.before.trampolines:
            one = self.after.trampolines[place][0]
            if not place.section or one.is_data or one.is_indirect or one.marked:
                continue
            if (kept := self.keepers.kept(one)).fault:
                yield f"{image.where(place)}: {kept.fault}."


def offsets(
    calls: Calls, wanted: tuple[int | None, int | None]
) -> tuple[tuple[int, int] | None, list[str]]:
    """Where the trampolines of an object look for the thread_info and for livepatch_sp, and a
    sentence for each code that looks elsewhere than the first, or than `wanted`."""
    keepers = Keepers(calls)
    if not keepers.noted:
        return None, []
    places = {
        Place(start.section, to) for start, kept in keepers.all.items() for _, to in kept.branches
    }
    found = {place: keepers.code(place) for place in sorted(places)}
    used = {
        place: (code.thread_info, code.livepatch_sp)
        for place, code in found.items()
        if isinstance(code, Code)
    }
    first = next(iter(used.values()), None)
    right = wanted if None not in wanted else first
    errors = [
        f"{calls.image.where(place)}: the livepatch stack is looked for by {one}, not {right}."
        for place, one in used.items()
        if one != right
    ]
    return first, errors
