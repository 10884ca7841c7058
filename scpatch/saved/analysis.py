"""Whether r2 is in the TOC save doubleword of the current frame, on every path to an instruction.

A forward data-flow analysis of one function. It knows up to three facts just before an instruction:
r2 holds the function's own TOC pointer (VALID); so does 24(r1), in the frame that r1 points at
(SAVED); and that frame is the function's, not its caller's (FRAMED). Where paths meet, a fact stays
if it holds on all of them.

Everything that the analysis cannot see counts against it. Code that nothing seems to reach may be
entered from anywhere with nothing known. An unknown instruction may change both registers. An
instruction that a linker or the kernel may change can be a nop: it adds no fact, and control may go
on after it, but what it destroys is destroyed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, reduce
from operator import and_
from types import MappingProxyType
from typing import Final, NamedTuple

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import effects
from scpatch.ppc64.variant import RESTORE_R2, SAVE_R2
from scpatch.saved.frame_copies import stores_by_copies

VALID: Final = 1
SAVED: Final = 2
FRAMED: Final = 4
"""Facts, a set of bits."""

_NOTHING: Final = 0
_ALL: Final = VALID | SAVED | FRAMED
_UNREACHED: Final = -1

_BRANCHES: Final = frozenset({0, 16, 18, 19})
"""Primary opcodes of all that transfers control, or stops it: the word zero is no instruction."""


class FunctionCode(NamedTuple):
    """What the analysis is told about a function. Offsets are section offsets in bytes."""

    words: Sequence[int]
    start: int
    """Section offset of the first word."""
    entry: int
    """Section offset of the local entry point, where r2 is the function's own."""
    targets: Mapping[int, int | None] = MappingProxyType({})
    """Branches with a relocation -> the section offset that they go to, None for elsewhere."""
    entries: Collection[int] = ()
    """Where control may come from outside with nothing known: labels that are taken, symbols."""
    edges: Collection[tuple[int, int]] = ()
    """Transfers that the code does not show: (instruction, target)."""
    clobbering: Collection[int] = ()
    """Calls that may return with another TOC in r2."""
    saving: Collection[int] = ()
    """Calls that store r2 in 24(r1) before the target runs, and load it from there afterwards."""
    restoring: Collection[int] = ()
    """Calls that only load it from there: they return with the function's r2 if it was saved."""
    unsure: Collection[int] = ()
    """Instructions that may be nops when the code runs: a linker or the kernel may change them."""
    unknown: Collection[int] = ()
    """Instructions that may be anything when the code runs."""

    def word(self, place: int) -> int:
        """The instruction at a section offset."""
        return self.words[place - self.start >> 2]


class Analysis:
    """The facts at each instruction of a function.

    At first computed jumps (switch tables, computed gotos) are taken to lead nowhere. Any of them
    may go anywhere in the function: `with_jumps` takes that into account.
    """

    def __init__(self, function: FunctionCode) -> None:
        self.function = function
        self._words = function.words
        self._edges: dict[int, list[int]] = {}
        for source, target in function.edges:
            self._edges.setdefault(source, []).append(target)
        self._unknown = frozenset(function.unknown)
        inside = range(function.start, function.start + 4 * len(self._words))
        self._unsure = {at for at in function.unsure if at in inside and _adds(function.word(at))}
        self._stores = stores_by_copies(self._words)
        self._special = {self._index(at) for at in (*self._edges, *self._unknown, *self._unsure)}
        self._special |= self._stores
        self._most = _ALL if self._has_prologue() else _NOTHING
        self._at_jumps = self._most
        self._run()

    def with_jumps(self) -> "Analysis":
        """The analysis with the computed jumps. They all lead to one virtual node, which leads to
        every instruction: what is not known at one of the jumps is known nowhere."""
        analysis = self
        while (facts := analysis._before_jumps()) != analysis._at_jumps:
            analysis = analysis._with(facts)
        return analysis

    def _with(self, at_jumps: int) -> "Analysis":
        """The analysis of the same function with these facts at the computed jumps."""
        new = object.__new__(Analysis)
        new.__dict__.update(self.__dict__, _at_jumps=at_jumps)
        new._run()
        return new

    def holds(self, place: int, facts: int) -> bool:
        """Whether all of `facts` hold whenever control is about to execute the instruction at the
        section offset `place`."""
        at = self._index(place)
        if not 0 <= at < len(self._words) or self._known[at] == _UNREACHED:
            return False
        return self._known[at] & facts == facts

    def _index(self, place: int) -> int:
        return place - self.function.start >> 2

    def _run(self) -> None:
        self._known = [_UNREACHED] * len(self._words)
        self._spread([(self.function.entry, VALID)])
        self._spread([(place, _NOTHING) for place in self.function.entries])
        while unreached := self._unreached():
            seed = _ALL if self.computed_jumps else _NOTHING
            self._spread([(place, seed) for place in unreached])

    def _has_prologue(self) -> bool:
        """Whether control goes on from the global entry point to the local one, and nowhere else.
        Otherwise nothing is known anywhere in the function."""
        return not any(
            at in self._special or insn.transfers(word) or word == 0
            for at, word in enumerate(self._words[: max(self._index(self.function.entry), 0)])
        )

    def _before_jumps(self) -> int:
        at_jumps = (self._known[self._index(jump)] for jump in self.computed_jumps)
        return reduce(and_, at_jumps, self._most)

    @property
    def computed_jumps(self) -> list[int]:
        """Section offsets of reached branches through CTR that are no calls."""
        return [
            self.function.start + 4 * at
            for at, word in enumerate(self._words)
            if word >> 26 == 19
            and self._known[at] != _UNREACHED
            and insn.is_indirect(word)
            and not insn.links(word)
            and not insn.is_through_lr(word)
        ]

    def _unreached(self) -> list[int]:
        """Section offsets of code that no path has reached, without padding."""
        first = max(self._index(self.function.entry), 0)
        return [
            self.function.start + 4 * at
            for at in range(first, len(self._words))
            if self._known[at] == _UNREACHED
            and (at in self._special or not insn.is_padding(self._words[at]))
        ]

    def _spread(self, work: list[tuple[int, int]]) -> None:
        """Spreads facts from (section offset, facts) until nothing changes any more."""
        known, words, special, start = self._known, self._words, self._special, self.function.start
        at_jumps = self._at_jumps
        while work:
            place, facts = work.pop()
            at = place - start >> 2
            while 0 <= at < len(words):
                facts &= at_jumps
                old = known[at]
                if old != _UNREACHED:
                    facts &= old
                    if facts == old:
                        break
                known[at] = facts
                word = words[at]
                if word >> 26 in _BRANCHES or at in special:
                    successors = list(self._successors(start + 4 * at, word, facts))
                    if not successors:
                        break
                    work += successors[:-1]
                    place, facts = successors[-1]
                    at = place - start >> 2
                else:
                    facts = _after(word, facts)
                    at += 2 if word >> 26 == 1 else 1

    @property
    def uses_the_slot(self) -> bool:
        """Whether the function may keep something else than r2 in 24(r1)."""
        return bool(self._stores) or any(
            effects(word).save and word != SAVE_R2 and not insn.transfers(word)
            for word in set(self._words)
        )

    def transfers(self) -> Iterator[tuple[int, int, int]]:
        """(from, to, what is known on this path) of each reached instruction that may transfer
        control, also to the next one."""
        for at, word in enumerate(self._words):
            if (word >> 26 in _BRANCHES or at in self._special) and self._known[at] != _UNREACHED:
                place = self.function.start + 4 * at
                for target, facts in self._successors(place, word, self._known[at]):
                    yield place, target, facts

    def before(self, place: int) -> tuple[int, int] | None:
        """(from, what is known on this path) of the previous instruction, if it is reached and
        can only go on at `place`."""
        at = self._index(place) - 1
        if at < 0 or self._known[at] == _UNREACHED:
            return None
        word = self._words[at]
        if word >> 26 in _BRANCHES or at in self._special:
            return None
        return place - 4, _after(word, self._known[at])

    def _successors(self, place: int, word: int, before: int) -> Iterator[tuple[int, int]]:
        # A fault or a jump label leaves before the instruction has done its work.
        for edge in self._edges.get(place, ()):
            yield edge, before
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
        function = self.function
        target = function.targets.get(place, insn.direct_target(word, place))
        # A call of the function itself has the same r2.
        is_recursion = insn.links(word) and target in (function.start, function.entry)
        if target is not None and not is_recursion:
            yield target, before
        if insn.falls_through(word):
            yield place + 4, self._after_call(place, word, before) if insn.links(word) else before

    def _after_call(self, place: int, word: int, before: int) -> int:
        """A call of code with the same TOC returns with r2, a call through a pointer may not.

        If r2 holds another TOC at the call, a linker's stub may store that one in 24(r1).
        """
        frame = before & FRAMED
        if place in self.function.saving:
            return frame | (VALID | SAVED if before & VALID else _NOTHING)
        if insn.is_indirect(word):
            return frame | before & SAVED
        if not before & VALID:
            return frame
        if place in self.function.clobbering:
            return frame | before & SAVED
        if place in self.function.restoring and not before & SAVED:
            return frame
        return before


def _adds(word: int) -> bool:
    """Whether an instruction adds a fact, or keeps control from the next one, as no nop does."""
    adds = word in (0, SAVE_R2, RESTORE_R2)
    return adds or insn.transfers(word) or insn.pushes(word)


@cache
def _after(word: int, before: int) -> int:
    """The facts after an instruction that is no branch."""
    if word == SAVE_R2:
        return before | SAVED if before & VALID else before & ~SAVED
    if word == RESTORE_R2:
        return before | VALID if before & SAVED else before & ~VALID
    changed = effects(word)
    if changed.r2:
        before &= ~VALID
    if changed.r1 or changed.save:
        before &= ~SAVED
    if changed.r1:
        before = before | FRAMED if insn.pushes(word) else before & ~FRAMED
    return before
