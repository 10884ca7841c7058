"""Strategy `callsite`: a stub or the function itself saves r2, and the call restores it.

A stub is code at the end of the section that stores r2 and branches on to the trampoline. A thunk
also makes the call, restores r2 and branches back, for a call without a nop. A function that has
saved r2 on every path needs neither.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Final

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.insn import target
from scpatch.verifier.objects.read import STB_GLOBAL, STB_LOCAL, STB_WEAK, Place
from scpatch.verifier.objects.relocations import REL24
from scpatch.verifier.objects.stubs import STUB_NAME, Stub, read_stub, unescaped
from scpatch.verifier.objects.variant import LD_R2, B, without_distance
from scpatch.verifier.reasons.interface import (
    Block,
    Judgement,
    Strategy,
    Surroundings,
    only_the_nop,
    restore_fault,
)
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason


class _Reason(Reason):
    STUB = "stub", "saved by a stub", "calls a stub that saves r2, and restores it", True
    THUNK = (
        *("thunk", "saved by a thunk"),
        "branches to a thunk that saves, calls, restores and branches back",
        True,
    )


class _Callsite(Strategy):
    name = "callsite"
    reasons = (*_Reason, Common.SAVED)
    code_name = STUB_NAME

    def judge(self, code: Code, site: Site) -> Judgement | None:
        if site.stub is None:
            return None
        return (_thunk if site.stub.thunk else _stub)(code, site, site.stub)

    @classmethod
    def judge_in_image(cls, word: int, stub: str) -> tuple[Reason, str] | None:
        if word != LD_R2 or not STUB_NAME.fullmatch(stub):
            return None
        return _Reason.STUB, f"saved by {stub}, restored after the call"

    def judge_alone(
        self, site: Site, found: Judgement, known: Surroundings
    ) -> tuple[Reason, str] | None:
        stub = site.stub
        if stub is None or found.reason not in tuple(_Reason):
            return None
        if fault := self._fault(stub):
            return Common.WRONG, f"{stub.symbol.name}: {fault}"
        if stub.symbol.binding == STB_WEAK != self._binding(stub) and not self.after.calls.module:
            why = f"{stub.symbol.name} is weak: a linker may use that of another object instead"
            return Common.WRONG, why
        return None

    def faults_alone(self) -> Iterator[str]:
        """Calls that such a stub hides are not seen as static calls: through one that leads to no
        trampoline, or into the middle of one."""
        calls = self.after.calls
        for place, stub in calls.stubs.items():
            where, name = calls.image.where(place), STUB_NAME.fullmatch(stub.symbol.name)
            assert name is not None, "it is a stub by its name"
            if stub.trampoline is None and calls.is_named(unescaped(name[2])):
                yield f"{where}: {stub.symbol.name} is no good: {stub.fault}."
            for at in range(4, stub.size if stub.trampoline is not None else 0, 4):
                if reason := self.after.entries.entered(place.after(at)):
                    yield f"{where}: +{at:#x} may run without the save before it: {reason}."

    def changed_words(self, site: Site) -> list[Place]:
        if site.stub is not None and site.stub.thunk:
            return [site.place]
        return super().changed_words(site)

    def call_faults(self, was: Site, now: Site, reason: Reason) -> Iterator[str]:
        if reason is Common.SAVED:
            yield from only_the_nop(was, now)

    def is_applied(self, states: Collection[Reason], changed: Collection[Reason]) -> bool:
        return self._unmarked or super().is_applied(states, changed)

    @cached_property
    def _unmarked(self) -> bool:
        """Whether trampolines are marked no more, so that the linkers do not see to their calls."""
        symbols = self.after.calls.image.symbols
        return any(
            trampoline.marked and symbols[trampoline.symbol.number].other >> 5 != 1
            for trampoline in self.before.calls.every_trampoline
        )

    def blocks(self) -> Mapping[Place, Block]:
        stubs = [read_stub(self.after.calls, symbol) for symbol in self.appended.values()]
        doubles = self._doubles(stubs)
        return {
            stub.place: Block(
                stub.symbol,
                stub.size,
                stub.fault or self._fault(stub) or doubles.get(stub.place, ""),
                self._binding(stub),
                {stub.branch: REL24},
            )
            for stub in stubs
        }

    @cached_property
    def _used(self) -> set[Place]:
        sites = self.after.calls.sites.values()
        return {site.stub.place for site in sites if site.stub is not None}

    def _fault(self, stub: Stub) -> str:
        if stub.place not in self._used:
            return f"no call uses the stub {stub.symbol.name}"
        assert stub.trampoline is not None, "only a stub with a fault has none"
        name = STUB_NAME.fullmatch(stub.symbol.name)
        if name is None or unescaped(name[2]) not in self.after.calls.names(stub.trampoline):
            return f"it leads to {stub.trampoline.symbol.name}"
        return ""

    def _binding(self, stub: Stub) -> int:
        """Of two weak symbols the linker takes the first for both. That is right only if both do
        the same, which a thunk that returns elsewhere does not, nor a stub whose branch is named by
        what is another thing in another object: a local trampoline, or any other symbol."""
        if stub.trampoline is None or stub.thunk:
            return STB_GLOBAL
        rela, _ = self.after.calls.branches[stub.branch]
        is_shared = any(
            same.symbol.number == rela.symbol and same.symbol.binding != STB_LOCAL
            for same in self.after.calls.trampolines[stub.trampoline.place]
        )
        return STB_WEAK if is_shared else STB_GLOBAL

    def _doubles(self, stubs: Collection[Stub]) -> dict[Place, str]:
        """The stubs that do what another one of their section does."""
        first: dict[tuple[int, int, int], Stub] = {}
        doubles = {}
        for stub in stubs:
            if stub.thunk or stub.trampoline is None:
                continue
            # By what the branch names: a place may have several names.
            rela, _ = self.after.calls.branches[stub.branch]
            other = first.setdefault((stub.place.section, rela.symbol, rela.addend), stub)
            if other is not stub:
                doubles[stub.place] = f"it does what {other.symbol.name} does"
        return doubles


def _stub(code: Code, site: Site, stub: Stub) -> Judgement:
    image, name = code.calls.image, stub.symbol.name
    restored = f"restored at {image.sections[site.place.section].name}+{site.following.offset:#x}"
    if code.calls.word(site.following) != LD_R2:
        return Judgement(Common.WRONG, f"saved by {name}, but not {restored}")
    if fault := restore_fault(code, site):
        return Judgement(Common.WRONG, fault)
    where = f"{image.sections[stub.place.section].name}+{stub.place.offset:#x}"
    return Judgement(_Reason.STUB, f"saved by {name} ({where}), {restored}")


def _thunk(code: Code, site: Site, stub: Stub) -> Judgement:
    calls, name = code.calls, stub.symbol.name
    word = calls.word(site.place)
    if (without_distance(word) if site.resolved else word) != B:
        return Judgement(Common.WRONG, f"{name} must be reached by b, not bl")
    last = calls.word(stub.last)
    returns = without_distance(last) == B and stub.last not in calls.branches
    if not returns or target(last, stub.last.offset) != site.following.offset:
        return Judgement(Common.WRONG, f"{name} does not return to this call")
    where = f"{calls.image.sections[stub.place.section].name}+{stub.place.offset:#x}"
    return Judgement(_Reason.THUNK, f"saved and restored by {name} ({where})")


STRATEGY: Final = _Callsite
