"""The call sites of one object.

A call site is any branch relocation on code that leads to a trampoline: by the trampoline's symbol,
by another symbol or section + addend at its place, or through a stub. A branch without a relocation
to a trampoline or a stub in the same section is one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from scpatch.verifier.objects import record
from scpatch.verifier.objects.insn import CallEffect, Flow, flow
from scpatch.verifier.objects.read import (
    SHF_ALLOC,
    STT_FILE,
    STT_SECTION,
    Image,
    Place,
    Rela,
    Symbol,
    UnreadableError,
)
from scpatch.verifier.objects.relocations import BRANCHES, REL24
from scpatch.verifier.objects.stubs import ADDED_NAME, STUB_NAME, Stub, read_stub, refused
from scpatch.verifier.objects.trampolines import Targets, Trampoline, is_inside
from scpatch.verifier.objects.variant import NOPS, STD_R2, B

_NOWHERE = Place(0, 0)


@dataclass(frozen=True, slots=True)
class Site:
    """A call site. `record` is its relocation: SHT_RELA section and offset of the entry in it. One
    that the assembler has resolved has none: `record` is in section 0, and `rela` says what a
    relocation would."""

    place: Place
    rela: Rela
    record: Place
    trampoline: Trampoline
    distance: int
    """How far past the trampoline's global entry the branch lands, in bytes."""
    stub: Stub | None

    @property
    def resolved(self) -> bool:
        return not self.record.section

    @property
    def following(self) -> Place:
        """The instruction after the call."""
        return self.place.after(4)


@dataclass(frozen=True, eq=False)
class Calls(Targets):
    """The stubs and call sites of an object."""

    @cached_property
    def noted(self) -> frozenset[str]:
        """The strategies that the object says it was rewritten with."""
        return record.strategies(self.image)

    @cached_property
    def stubs(self) -> dict[Place, Stub]:
        """The stubs by place; of two at one place the first."""
        stubs: dict[Place, Stub] = {}
        for symbol in self.image.symbols:
            if symbol.section > 0 and STUB_NAME.fullmatch(symbol.name):
                stubs.setdefault(Place(symbol.section, symbol.value), read_stub(self, symbol))
        return stubs

    @cached_property
    def sites(self) -> dict[Place, Site]:
        """The call sites by place; the branches inside stubs are not call sites."""
        inner = {stub.branch for stub in self.stubs.values() if self._is_formed(stub)}
        sites = {}
        led: dict[tuple[int, int], tuple[Stub | None, tuple[Trampoline, int] | None]] = {}
        for place, (rela, entry) in self.branches.items():
            names = rela.symbol, rela.addend
            if names not in led:
                target = self.image.target(rela)
                to_stub = self.stubs.get(target) if target is not None else None
                led[names] = to_stub, self.reached(rela)
            stub, reached = led[names]
            if stub is not None and stub.trampoline is not None:
                sites[place] = Site(place, rela, entry, stub.trampoline, 0, stub)
                continue
            if reached is None or place in inner or is_inside(place, reached[0]):
                continue
            if not self._is_dead_copy(place, rela):
                sites[place] = Site(place, rela, entry, *reached, None)
        for site in self._resolved():
            sites[site.place] = site
        return dict(sorted(sites.items()))

    def is_static_call(self, place: Place) -> bool:
        """Whether the instruction is a call of a trampoline."""
        return place in self.sites

    def call_effect(self, place: Place) -> CallEffect | None:
        """What the call at `place` does to r2; None if the instruction is no call."""
        site, entry = self.sites.get(place), self.branches.get(place)
        stub = site.stub if site is not None else None
        if flow(self.word(place)) is not Flow.CALL:
            thunk = stub is not None and stub.thunk
            return CallEffect.SAVES_AND_RESTORES if thunk else None
        if self.by_loader(place):
            return CallEffect.SAVES_AND_RESTORES
        if stub is not None:
            return CallEffect.LOSES if stub.fault else CallEffect.SAVES
        if site is None:
            plain = entry is None or entry[0].type == REL24
            return CallEffect.PRESERVES if plain else CallEffect.LOSES
        saved = (
            site.trampoline.marked
            or site.trampoline.is_indirect
            or self.stub_by_loader(site.trampoline)
        )
        restored = site.rela.type == REL24 and self.word(site.following) in NOPS
        return CallEffect.PRESERVES if saved and restored else CallEffect.LOSES

    def thunk_return(self, place: Place) -> Place | None:
        """The branch to `place` at the end of the thunk that the instruction before it calls."""
        site = self.sites.get(place.after(-4))
        if site is None or site.stub is None or not site.stub.thunk or site.stub.fault:
            return None
        return site.stub.last

    def _is_formed(self, stub: Stub) -> bool:
        """Whether it has the instructions of a stub, even if nothing accepts it."""
        if not stub.fault or stub.trampoline is None:
            return not stub.fault
        return stub.fault == refused(self, stub.trampoline, stub.thunk)

    def _resolved(self) -> Iterator[Site]:
        """The branches without a relocation to a trampoline or a stub in the same section. Unless
        a function covers it, a `b` is padding: assemblers branch over a long row of nops."""
        for section, callees in self._words_of_callees().items():
            for at, to in self.branches_into(section, callees):
                place, callee = Place(section, at), callees[to]
                if self.relocations_on(place) or _is_within(place, callee):
                    continue
                function = self.image.function_at(place)
                is_call = self.word(place) & 1 or (isinstance(callee, Stub) and callee.thunk)
                if is_call or function is not None:
                    yield from self._resolved_site(place, to, callee, function)

    def _words_of_callees(self) -> dict[int, dict[int, Trampoline | Stub]]:
        """By code section, what each word of a trampoline or a stub belongs to."""
        code = {section.number for section in self.image.code}
        words: dict[int, dict[int, Trampoline | Stub]] = {number: {} for number in code}
        for place, (trampoline, *_) in sorted(self.trampolines.items()):
            if place.section in code and not trampoline.is_data:
                inside = range(place.offset, place.offset + trampoline.symbol.size, 4)
                entries = place.offset, trampoline.local_entry
                words[place.section] |= dict.fromkeys((*inside, *entries), trampoline)
        for place, stub in self.stubs.items():
            inside = range(place.offset, place.offset + max(stub.size, 4), 4)
            words.setdefault(place.section, {}).update(dict.fromkeys(inside, stub))
        return words

    @staticmethod
    def _resolved_site(
        place: Place, to: int, callee: Trampoline | Stub, function: Symbol | None
    ) -> Iterator[Site]:
        rela = Rela(place.offset, REL24, callee.symbol.number, 0)
        into = to not in (callee.place.offset, callee.local_entry)
        if into and function is not None and ADDED_NAME.fullmatch(function.name):
            return  # back to after a trampoline's prologue
        if isinstance(callee, Trampoline):
            yield Site(place, rela, _NOWHERE, callee, to - callee.local_entry, None)
        elif callee.trampoline is not None:
            yield Site(place, rela, _NOWHERE, callee.trampoline, to - callee.local_entry, callee)

    def _is_dead_copy(self, place: Place, rela: Rela) -> bool:
        """Whether a branch ends the copy of a stub that nothing runs. If two objects have the same
        stub, `ld -r` keeps the first of the two symbols and leaves the code of both.

        A thunk written by hand is no such copy: something leads to it, or no stub is like it.
        """
        start = Place(place.section, place.offset - 4)
        if place.offset < 4 or (self.word(start), self.word(place)) != (STD_R2, B):
            return False
        if (rela.symbol, rela.addend) not in self._stub_branches:
            return False
        before = self.word(Place(place.section, place.offset - 8)) if place.offset >= 8 else 0
        if before and flow(before) not in (Flow.JUMP, Flow.LEAVES):
            return False
        if self.image.function_at(start) is not None or not self._named.isdisjoint((start, place)):
            return False
        ends = (start.offset, place.offset)
        return not any(True for _ in self.branches_into(place.section, ends))

    @cached_property
    def _stub_branches(self) -> frozenset[tuple[int, int]]:
        """What the branches of good stubs name: symbol and addend."""
        good = (stub for stub in self.stubs.values() if not stub.fault)
        relas = (self.branches[stub.branch][0] for stub in good)
        return frozenset((rela.symbol, rela.addend) for rela in relas)

    @cached_property
    def _named(self) -> frozenset[Place]:
        """The places that symbols, or relocations on what is loaded, name."""
        places = {
            Place(symbol.section, symbol.value)
            for symbol in self.image.symbols
            if symbol.type not in (STT_SECTION, STT_FILE)
        }
        for section in self.image.sections:
            if section.flags & SHF_ALLOC:
                targets = map(self.image.target, self.image.relocations(section.number))
                places |= {place for place in targets if place is not None}
        return frozenset(places)


def _is_within(place: Place, callee: Trampoline | Stub) -> bool:
    """Whether a branch to a trampoline or a stub is in that itself."""
    if isinstance(callee, Trampoline):
        return is_inside(place, callee)
    within = range(callee.place.offset, callee.place.offset + callee.size)
    return place.section == callee.place.section and place.offset in within


def find_calls(image: Image, trampolines: Sequence[str]) -> Calls:
    """The call sites of `image` against trampolines whose names match one of the globs.

    Raises UnreadableError for a call in a loaded section that is not executable.
    """
    calls = Calls(image, tuple(trampolines))
    code = {section.number for section in image.code}
    for section in image.sections if calls.trampolines else ():
        if not section.flags & SHF_ALLOC or section.number in code:
            continue
        for rela in image.relocations(section.number):
            if rela.type in BRANCHES and calls.reached(rela) is not None:
                where = f"{section.name}+{rela.offset:#x}"
                raise UnreadableError(f"{where}: a call in a section that is not executable")
    return calls
