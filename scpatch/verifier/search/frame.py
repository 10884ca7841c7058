"""Is r2 in 24(r1) at a call site? A search backwards from the site.

A restore `ld r2,24(r1)` is right if, on every path that leads to it, the function has stored its
r2 in the TOC save doubleword of the frame that is live at the site. The search has *needs*, each
for the moment before one instruction:

    SLOT   24(r1) must hold the function's r2
    R2     r2 must hold the function's r2
    FRAME  r1 must point at a frame that the function has pushed

It steps from each need to all instructions that control may come from. `std r2,24(r1)` turns a SLOT
into an R2, `ld r2,24(r1)` an R2 into a SLOT; the function's entry fulfils R2 (ELFv2 ABI: at its
local entry point r2 is its TOC pointer) and can never fulfil SLOT. A change of r1, another store to
the slot, an entry from outside the function, or anything unknown ends the search without a proof.
A need is followed once, whichever site asks for it: the results serve all sites of a function. An
instruction that a linker or the kernel may change counts as what it says and as a nop: both must
do.

The search relies on the ABI: a callee gives r1 back as it was and writes nothing to its
caller's frame but, in a linker's stub, the present r2 to 24(r1); and no pointer leads there but a
register that the function itself sets to r1 and a constant.

scpatch's own analysis goes forwards, from the entry to the site, with a state for each block. The
two have nothing in common but the question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from scpatch.verifier.objects.calls import Calls
from scpatch.verifier.objects.read import Place, Symbol
from scpatch.verifier.search.entries import Entries
from scpatch.verifier.search.function import Function, NotShownError
from scpatch.verifier.search.object_entries import ObjectEntries
from scpatch.verifier.search.steps import Need, at_entry, step

_JUMPS = -1
"""In place of an offset: where the computed jumps of the function join. They may lead to any of its
instructions, so whatever must hold before one of those must hold here."""

_FEW = 8
"""So many saves are named."""

_State = tuple[int, Need]
"""A need for the moment before the instruction at a section offset."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Shown if `fault` is empty."""

    saves: tuple[int, ...] = ()
    """Section offsets of what fills the slot, stores and calls of stubs: a few of them."""
    more: int = 0
    """How many there are beside those."""
    fault: str = ""

    def named(self, section: str) -> str:
        """The saves for a message."""
        places = ", ".join(f"{section}+{offset:#x}" for offset in self.saves)
        return f"{places} and {self.more} more" if self.more else places


@dataclass(frozen=True, eq=False)
class Saves:
    """What the functions of an object or image save."""

    entries: Entries
    _searches: dict[Symbol, Search] = field(default_factory=dict, repr=False)

    def is_saved(self, place: Place) -> Answer:
        """Whether 24(r1) holds the function's r2 whenever control comes to `place`."""
        return self._answer(place, Need.SLOT)

    def is_framed(self, place: Place) -> Answer:
        """Whether r1 points at a frame that the function has pushed whenever control comes to
        `place`."""
        return self._answer(place, Need.FRAME)

    def saves_among(self, place: Place, wanted: Callable[[Place], bool]) -> tuple[int, ...]:
        """The section offsets of those saves for a call that are `wanted`; the question must have
        the same answer for a save each time."""
        return self._search(place).saves_among(place.offset, wanted)

    def other_store(self, place: Place) -> int | None:
        """Where the function around `place` stores something else in 24(r1); None if nowhere."""
        return self._search(place).function.other_store

    def _answer(self, place: Place, need: Need) -> Answer:
        try:
            return self._search(place).answer(place.offset, need)
        except NotShownError as reason:
            return Answer(fault=str(reason))

    def _search(self, place: Place) -> Search:
        """The search in the function around a place. Raises NotShownError if there can be none."""
        symbol = self.entries.calls.image.function_at(place)
        if symbol is None:
            raise NotShownError("no function symbol covers the call")
        if symbol.value % 4:
            raise NotShownError(f"{symbol.name} starts at no instruction")
        if unread := self.entries.changes.patches.unread:
            raise NotShownError(
                f"{unread} has an unknown form, so that the kernel may patch any instruction"
            )
        if self.entries.unwound:
            raise NotShownError(
                "an exception table says where the unwinder enters functions, in a form that is "
                "not read here"
            )
        if symbol not in self._searches:
            size = self.entries.calls.image.sections[symbol.section].size
            end = min(symbol.value + symbol.size, size)
            self._searches[symbol] = Search(Function(self.entries, symbol, end))
        return self._searches[symbol]


@dataclass(frozen=True, eq=False)
class Code(Saves):
    """The code of one object: where control may come from, and what its functions save."""

    entries: ObjectEntries

    @property
    def calls(self) -> Calls:
        return self.entries.calls


@dataclass(frozen=True, eq=False)
class Search:
    """What is known of one function. Each state is followed once, whatever asks for it."""

    function: Function
    _faults: dict[_State, str] = field(default_factory=dict)
    """All states that were followed, each with a fault of a path to it; empty if there is none."""
    _saves: dict[_State, int] = field(default_factory=dict)
    """Of a need of the slot, a bit for each of `_places` that may be what fills it."""
    _places: list[int] = field(default_factory=list)
    """The saves, by the number of the bit that stands for each."""
    _bits: dict[int, int] = field(default_factory=dict)
    """The number of the bit, by save."""
    _wanted: list[int] = field(default_factory=list)
    """The bits of those that were wanted among the first, the first two, and so on."""

    def answer(self, offset: int, need: Need) -> Answer:
        state = offset, need
        if state not in self._faults:
            self._follow(state)
        if fault := self._faults[state]:
            return Answer(fault=fault)
        mask = self._saves.get(state, 0)
        few = sorted(self._places[bit] for bit in islice(_ones(mask), _FEW))
        return Answer(tuple(few), mask.bit_count() - len(few))

    def saves_among(self, offset: int, wanted: Callable[[Place], bool]) -> tuple[int, ...]:
        self.answer(offset, Need.SLOT)
        for bit in range(len(self._wanted), len(self._places)):
            good = wanted(self.function.place(self._places[bit]))
            self._wanted.append((self._wanted[-1] if bit else 0) | good << bit)
        mask = self._saves.get((offset, Need.SLOT), 0) & (self._wanted[-1] if self._wanted else 0)
        return tuple(sorted(self._places[bit] for bit in _ones(mask)))

    def _follow(self, first: _State) -> None:
        """Follows a state back to the entry, as far as that was not done before."""
        earlier: dict[_State, list[_State]] = {first: []}
        later: dict[_State, list[_State]] = {}
        faults: dict[_State, str] = {}
        work = [first]
        while work:
            state = work.pop()
            try:
                for before in self._before(*state):
                    earlier[state].append(before)
                    if self._faults.get(before):
                        faults.setdefault(state, self._faults[before])
                    elif before not in self._faults:
                        later.setdefault(before, []).append(state)
                        if before not in earlier:
                            earlier[before] = []
                            work.append(before)
            except NotShownError as reason:
                faults[state] = str(reason)
        spread = list(faults)
        for state in spread:  # grows: a fault holds for all that comes later
            for after in later.get(state, ()):
                if after not in faults:
                    faults[after] = faults[state]
                    spread.append(after)
        for state in earlier:
            self._faults[state] = faults.get(state, "")
        self._collect(earlier)

    def _before(self, offset: int, need: Need) -> Iterator[_State]:
        """The states that must hold for this one to hold."""
        function = self.function
        if offset == _JUMPS:
            for jump in function.jumps:
                yield jump, need
            return
        if function.jumps:
            yield _JUMPS, need
        if offset in (function.local_entry, function.start):
            at_entry(function, offset, need)
            return
        for source in function.before(offset):
            for before in step(function, source, need):
                yield source, before

    def _collect(self, earlier: dict[_State, list[_State]]) -> None:
        """Finds what fills the slot for each new state: in the order of the code, until nothing
        changes. That takes two rounds, and one for each loop in a loop."""
        good = (state for state in earlier if state[1] is Need.SLOT and not self._faults[state])
        states = sorted(good, key=lambda state: state[0])
        changed = bool(states)
        for state in states:
            for at, _ in earlier[state]:
                if at != _JUMPS and self.function.saves(at):
                    if at not in self._bits:
                        self._bits[at] = len(self._places)
                        self._places.append(at)
                    self._saves[state] = self._saves.get(state, 0) | 1 << self._bits[at]
        while changed:
            changed = False
            for state in states:
                saves = self._saves.get(state, 0)
                for before in earlier[state]:
                    if before[1] is Need.SLOT:
                        saves |= self._saves.get(before, 0)
                if saves != self._saves.get(state, 0):
                    self._saves[state] = saves
                    changed = True


def _ones(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1
