"""Strategy `livepatch-stack`: the trampoline saves LR and r2 on the thread's livepatch stack.

A trampoline goes to a target with another TOC by `mtctr r12; bctr`. It preserves r2 if it ends in a
branch to the code below instead, and nothing before that writes r1, r2 or LR. Then no call of it
needs anything, whatever its form.

The code was designed so that an interrupt may come between any two of its instructions, and may use
the livepatch stack itself: nothing is stored above livepatch_sp, and nothing is read above it. It
is compared word by word, since another order or another register would need that argument again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

from scpatch.verifier.objects.calls import Calls, Site
from scpatch.verifier.objects.insn import Effect, Flow, effect, flow, target
from scpatch.verifier.objects.read import STB_WEAK, Place
from scpatch.verifier.objects.relocations import REL24
from scpatch.verifier.objects.trampolines import Trampoline
from scpatch.verifier.objects.variant import BCTR, BL, LD_R2, MTCTR_R12, B, without_distance
from scpatch.verifier.reasons.interface import (
    Block,
    Judgement,
    Spans,
    Strategy,
    Surroundings,
    open_definition,
)
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason, SiteProof

_THREAD_INFO, _LOAD_SP, _STORE_SP = 0xE98D0000, 0xE96C0000, 0xF96C0000
"""`ld r12,N(r13)`, `ld r11,N(r12)` and `std r11,N(r12)`, where N is an offset of the kernel's."""
_HOLES: Final = {_THREAD_INFO: 0x8000, _LOAD_SP: 1024, _STORE_SP: 1024}
"""Each with the end of the offsets that it may have: what a displacement reaches, and a size that
no thread_info has."""
TEMPLATE: Final = (
    *(_THREAD_INFO, _LOAD_SP),
    *(0x396B0018, _STORE_SP),  # addi r11,r11,24; from the store on the entry is this call's
    0xF84BFFE8,  # std   r2,-24(r11)
    *(0x7C0802A6, 0xF80BFFF0),  # mflr r0; std r0,-16(r11)
    *(0x3C0057AC, 0x60006E9D),  # lis, ori: r0 = STACK_END_MAGIC (include/uapi/linux/magic.h)
    0xF80BFFF8,  # std   r0,-8(r11)
    0x7D8902A6,  # mfctr r12: the target's global entry
    0x4E800421,  # bctrl
    *(_THREAD_INFO, _LOAD_SP),  # anew: the thread may be on another CPU now
    *(0x3C4057AC, 0x60426E9D),  # lis, ori: r2 = STACK_END_MAGIC
    *(0xE80BFFF8, 0x7F001088),  # ld r0,-8(r11); tdne r0,r2
    *(0xE80BFFF0, 0x7C0803A6),  # ld r0,-16(r11); mtlr r0
    0xE84BFFE8,  # ld    r2,-24(r11)
    *(0x396BFFE8, _STORE_SP),  # addi r11,r11,-24; from the store on the entry is anybody's
    0x4E800020,  # blr
)
SIZE: Final = 4 * len(TEMPLATE)
_FAULT: Final = "that is not the code that saves r2 on the livepatch stack"

_MTLR, _WITHOUT_REGISTER = 0x7C0803A6, 0xFC1FFFFF
_COMPUTED_JUMPS: Final = (528, 560)
"""The extended opcodes of `bcctr` and `bctar`."""


class Offsets(NamedTuple):
    """What the code uses, in bytes."""

    thread_info: int
    """Of the pointer to the thread_info, from r13."""
    livepatch_sp: int
    """Of the stack pointer, from the thread_info."""


def read_code(words: Collection[int]) -> Offsets | None:
    """The offsets in the code that is `words`; None if they are not the code."""
    offsets: dict[bool, int] = {}
    if len(words) != len(TEMPLATE):
        return None
    for word, wanted in zip(words, TEMPLATE, strict=True):
        offset = word ^ wanted
        if wanted not in _HOLES:
            if offset:
                return None
        elif (
            offset % 8
            or offset >= _HOLES[wanted]
            or offsets.setdefault(wanted == _THREAD_INFO, offset) != offset
        ):
            return None
    return Offsets(offsets[True], offsets[False])


class _Reason(Reason):
    TRAMPOLINE = (
        *("trampoline", "kept by trampoline"),
        "its trampoline saves r2 on the livepatch stack",
    )
    ELSEWHERE = (
        *("elsewhere", "kept elsewhere"),
        "its trampoline is another object's, and is to save r2 there",
    )


@dataclass(frozen=True, slots=True)
class _Exit:
    """How a trampoline goes to a target with another TOC. Numbers are section offsets."""

    fault: str
    """Why r2 is not preserved; empty if it is."""
    start: int = 0
    """The first instruction of the path that loads the target's address."""
    branches: tuple[tuple[int, int], ...] = ()
    """(branch, code) for each branch to code that saves LR and r2."""


@dataclass(frozen=True, eq=False)
class _Exits:
    """The exits of the trampolines of one object."""

    calls: Calls
    _read: dict[Place, _Exit] = field(default_factory=dict)

    @cached_property
    def noted(self) -> bool:
        """Whether the object says that it was rewritten by this strategy."""
        return _LivepatchStack.name in self.calls.noted

    def of(self, trampoline: Trampoline) -> _Exit:
        """The exit of a trampoline that the object defines."""
        if trampoline.place not in self._read:
            self._read[trampoline.place] = self._find(trampoline)
        return self._read[trampoline.place]

    @cached_property
    def good(self) -> dict[Place, _Exit]:
        """The exits that preserve r2, by the place of the trampoline."""
        exits = {
            place: self.of(named[0])
            for place, named in self.calls.trampolines.items()
            if place.section and not named[0].is_data and not named[0].is_indirect
        }
        return {place: exit_ for place, exit_ in exits.items() if not exit_.fault}

    def code(self, place: Place) -> Offsets | None:
        """The offsets that the code at a place uses; None if it is not the code."""
        places = [place.after(at) for at in range(0, SIZE, 4)]
        offsets = read_code([self.calls.word(at) for at in places])
        return None if any(map(self.calls.fields_in, places)) else offsets

    def _find(self, trampoline: Trampoline) -> _Exit:
        symbol, start = trampoline.symbol, trampoline.place
        if not symbol.size or start.offset % 4 or symbol.other >> 5 in (1, 7):
            return _Exit("its trampoline has no size, or does not promise to preserve r2")
        end = min(start.offset + symbol.size, self.calls.image.sections[start.section].size)
        within = range(start.offset, end & ~3, 4)
        branches = []
        for at in within:
            place = Place(start.section, at)
            if self.calls.fields_in(place):
                continue
            word = self.calls.word(place)
            to = target(word, at) if flow(word) is Flow.JUMP else None
            if to is not None and to not in within:
                branches.append((at, to))
            elif word >> 26 == 19 and word >> 1 & 0x3FF in _COMPUTED_JUMPS:
                return _Exit(f"its trampoline leaves at {self.calls.image.where(place)} for good")
        return self._judge(start, trampoline.local_entry, branches)

    def _judge(self, start: Place, local: int, branches: list[tuple[int, int]]) -> _Exit:
        """The verdict on a trampoline that leaves by `branches`, from its local entry `local`."""
        last, exits = local, []
        for at, to in branches:
            before = Place(start.section, at - 4)
            if self.calls.word(before) != MTCTR_R12 or self.calls.fields_in(before):
                continue  # a branch straight to a target in this section, which shares the TOC
            if self.code(Place(start.section, to)) is None:
                where = self.calls.image.where(Place(start.section, to))
                return _Exit(f"its trampoline goes on at {where}, and {_FAULT}")
            last = at
            exits.append((at, to))
        if not exits:
            return _Exit("its trampoline has no path to another TOC that preserves r2")
        for at in range(local, last, 4):
            place = Place(start.section, at)
            if _spoils(self.calls.word(place)):
                return _Exit(f"{self.calls.image.where(place)} may write r1, r2 or LR")
        return _Exit("", self._first(start.section, local, exits[0][0]), tuple(exits))

    def _first(self, section: int, local: int, end: int) -> int:
        """Where the straight path to the branch at `end` begins: after the last instruction that
        leaves the trampoline, or at the local entry."""
        for at in range(end - 4, local - 4, -4):
            if flow(self.calls.word(Place(section, at))) is not Flow.NEXT:
                return at + 4
        return local


def _spoils(word: int) -> bool:
    """Whether an instruction may write r1, r2 or LR."""
    kind = flow(word)
    if kind is not Flow.NEXT:
        return kind in (Flow.CALL, Flow.INDIRECT_CALL)
    writes = (Effect.WRITES_R2, Effect.MOVES_R1, Effect.RESTORE, Effect.UNKNOWN)
    return effect(word) in writes or word & _WITHOUT_REGISTER == _MTLR


class _LivepatchStack(Strategy):
    name = "livepatch-stack"
    reasons = tuple(_Reason)
    code_name = re.compile(r"r2lps\.[0-9a-f]{12}")
    not_in_images = (
        "its trampolines save r2 on the livepatch stack, which the calls in an image do not show; "
        "`scpatch verify BEFORE AFTER` proves the objects that it was linked from"
    )

    @cached_property
    def _old(self) -> _Exits:
        return _Exits(self.before.calls)

    @cached_property
    def _new(self) -> _Exits:
        return _Exits(self.after.calls)

    def judge_trampoline(self, code: Code, site: Site) -> Judgement | None:
        exits, trampoline = self._old if code is self.before else self._new, site.trampoline
        word = code.calls.word(site.place)
        is_direct = site.rela.type == REL24 and not site.distance and not site.place.offset % 4
        is_direct = is_direct and without_distance(word) in (B, BL) and site.stub is None
        # A call that restores r2 from 24(r1) needs its save.
        if not exits.noted or not is_direct or code.calls.word(site.following) == LD_R2:
            return None
        if trampoline.is_defined:
            if exits.of(trampoline).fault:
                return None
            return Judgement(_Reason.TRAMPOLINE, "its trampoline keeps r2")
        if code.calls.module or trampoline.symbol.section:
            return None
        why = "its trampoline, which another object defines, is to keep r2"
        return Judgement(_Reason.ELSEWHERE, why)

    def judge_alone(
        self, site: Site, found: Judgement, known: Surroundings
    ) -> tuple[Reason, str] | None:
        if found.reason is _Reason.ELSEWHERE:
            return Common.OPEN, f"{found.why}: check that object, too"
        if found.reason is not _Reason.TRAMPOLINE:
            return None
        if None in known.livepatch:
            why = "its trampoline saves r2 where --asm-offsets says whether the livepatch stack is"
            return Common.OPEN, why
        for _, to in self._new.of(site.trampoline).branches:
            offsets = self._new.code(Place(site.trampoline.place.section, to))
            if offsets != known.livepatch:
                return Common.WRONG, f"the livepatch stack is looked for by {offsets}"
        return None if self.after.calls.module else open_definition(site, found.why)

    def describe(self, proof: SiteProof, was: Site, now: Site) -> SiteProof:
        if proof.state is _Reason.ELSEWHERE:
            return replace(proof, runs=False)
        if proof.state is not _Reason.TRAMPOLINE:
            return proof
        exit_ = self._new.of(now.trampoline)
        branch, to = exit_.branches[0]
        return replace(
            proof,
            ctr_path=(exit_.start, branch),
            code=(to, SIZE),
            sibling=not self.after.calls.word(now.place) & 1,
        )

    @cached_property
    def _branches(self) -> dict[Place, Place]:
        """The branches that were a `bctr`, and the code that they lead to."""
        old, new = self.before.calls, self.after.calls
        return {
            place: Place(start.section, to)
            for start, exit_ in (self._new.good.items() if self._new.noted else ())
            for at, to in exit_.branches
            if old.word(place := Place(start.section, at)) == BCTR
            and without_distance(new.word(place)) == B
        }

    def spans(self) -> Spans:
        return [(section, range(at, at + 4)) for section, at in self._branches]

    def blocks(self) -> Mapping[Place, Block]:
        faults = dict.fromkeys(self._branches.values(), "")
        return {
            place: Block(symbol, SIZE, faults.get(place, "no trampoline branches to it"), STB_WEAK)
            for place, symbol in self.appended.items()
        }

    def faults(self, *, changed: bool) -> Iterator[str]:
        if not self._new.noted or self._old.noted:
            return
        if changed:
            yield f"a call was changed, which {self.name} does not do."
        for place in self.before.calls.trampolines:
            trampoline = self.after.calls.trampolines[place][0]
            is_code = place.section and not trampoline.is_data and not trampoline.is_indirect
            if is_code and not trampoline.marked and (fault := self._new.of(trampoline).fault):
                yield f"{self.after.calls.image.where(place)}: {fault}."

    def is_applied(self, states: Collection[Reason], changed: Collection[Reason]) -> bool:
        return bool(self._branches) or super().is_applied(states, changed)

    def livepatch_offsets(
        self, wanted: tuple[int | None, int | None]
    ) -> tuple[tuple[int, int] | None, list[str]]:
        if not self._new.noted:
            return None, []
        places = {
            Place(start.section, to)
            for start, exit_ in self._new.good.items()
            for _, to in exit_.branches
        }
        codes = ((place, self._new.code(place)) for place in sorted(places))
        used = {place: (*offsets,) for place, offsets in codes if offsets is not None}
        first = next(iter(used.values()), None)
        right = wanted if None not in wanted else first
        errors = [
            f"{self.after.calls.image.where(place)}: the livepatch stack is looked for by "
            f"{offsets}, not {right}."
            for place, offsets in used.items()
            if offsets != right
        ]
        return first, errors


STRATEGY: Final = _LivepatchStack
