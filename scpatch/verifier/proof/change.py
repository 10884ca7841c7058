"""What became of one call: its state, and whether it may have been changed so.

A nop after another call may have become `std r2,24(r1)`, a save for this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.insn import toc_load
from scpatch.verifier.objects.patches import Patch
from scpatch.verifier.objects.read import (
    SHF_GROUP,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    Place,
    Symbol,
)
from scpatch.verifier.objects.relocations import NEED_NO_TOC, REL24
from scpatch.verifier.objects.variant import BL, LD_R2, NOP, NOPS, STD_R2, without_distance
from scpatch.verifier.reasons import judge
from scpatch.verifier.reasons.interface import Judgement, Strategy, changed_words
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason, SiteProof

_ONE_ENTRY_NO_R2, _RESERVED = 1, 7


@dataclass(frozen=True, eq=False)
class Change:
    """One call site in both objects."""

    before: Code
    after: Code
    strategies: Sequence[Strategy]
    was: Site
    now: Site

    @cached_property
    def is_changed(self) -> bool:
        """Whether the call's own words or its relocation differ."""
        old, new, following = self.before.calls, self.after.calls, self.was.following
        # After the old end stubs may follow; a call there answers for itself.
        is_whole = following.offset + 4 <= old.image.sections[following.section].size
        is_whole = is_whole and following not in new.sites
        return (
            self.was.rela != self.now.rela
            or old.word(self.was.place) != new.word(self.was.place)
            or (is_whole and old.word(following) != new.word(following))
        )

    def prove(self) -> SiteProof:
        """Judge the call in both objects."""
        image, place, trampoline = self.after.calls.image, self.now.place, self.was.trampoline
        was = judge(self.strategies, self.before, self.was)
        now = judge(self.strategies, self.after, self.now)
        function = image.function_at(place)
        proof = SiteProof(
            section=place.section,
            section_name=image.sections[place.section].name,
            offset=place.offset,
            function=function.name if function is not None else "",
            function_offset=place.offset - function.value if function is not None else 0,
            trampoline=trampoline.symbol.name,
            trampoline_section=trampoline.place.section,
            trampoline_offset=trampoline.place.offset if trampoline.is_defined else 0,
            trampoline_other=trampoline.symbol.other,
            state=self._state(now),
            right=now.reason.right,
            was_right=was.reason.right,
            why=now.why,
            resume=_resume(self.after, self.now),
            saved_before=now.reason in (Common.SAVED, Common.RESTORED),
            loader=now.reason is Common.LOADER,
            marked=now.reason is Common.LINKER,
            paca_toc=now.paca_toc,
            hoisted=_hoisted(self.before, self.after, place) if now.reason is Common.SAVED else (),
            runs=now.reason is not Common.NOTOC and not trampoline.is_indirect,
        )
        for strategy in self.strategies:
            proof = strategy.describe(proof, self.was, self.now)
        return proof

    def _state(self, now: Judgement) -> Reason:
        """What became of the call."""
        if self.is_changed:
            return now.reason if now.reason.right else Common.WRONG
        if now.reason is Common.WRONG:
            return Common.LEFT
        return Common.DONE if now.reason.by_change else now.reason

    def _owner(self, proof: SiteProof) -> Strategy | None:
        """The strategy that makes such calls."""
        return next((owner for owner in self.strategies if proof.state in owner.reasons), None)

    def words(self, proof: SiteProof) -> list[Place]:
        """The words of a changed call that may differ."""
        owner = self._owner(proof)
        return owner.changed_words(self.now) if owner is not None else changed_words(self.now)

    def faults(self, proof: SiteProof) -> Iterator[str]:
        """What a changed call may not have become, a sentence without its place."""
        was, now, old = self.was, self.now, self.before.calls
        if not proof.right:
            yield f"the call was changed, and r2 is wrong after it: {proof.why}"
            return
        if was.trampoline.place != now.trampoline.place:
            names = was.trampoline.symbol.name, now.trampoline.symbol.name
            yield f"the call led to {names[0]} and leads to {names[1]} now"
        is_call = without_distance(old.word(was.place)) == BL
        if was.rela.type != REL24 or was.distance or not is_call:
            yield "this call must not be changed"
        may_undo = any(strategy.may_undo(was, now) for strategy in self.strategies)
        if proof.was_right and not old.stub_by_loader(was.trampoline) and not may_undo:
            yield "the call was changed although r2 was right after it"
        if was.following in self.words(proof) and old.word(was.following) not in NOPS:
            yield "the restore overwrote an instruction that is not a nop"
        if (owner := self._owner(proof)) is not None:
            yield from owner.call_faults(was, now, proof.state)
        named = (now.rela.symbol, now.rela.addend)
        if now.stub is not None and named != (now.stub.symbol.number, 0):
            yield f"the call's relocation does not name {now.stub.symbol.name} itself"


def _resume(code: Code, site: Site) -> int:
    """Where control goes on after a call, with the nop or restore that belongs to it."""
    word = code.calls.word(site.following)
    is_part = word in NOPS or word == LD_R2 or toc_load(word) is not None
    is_alone = site.rela.type in NEED_NO_TOC or (site.stub is not None and site.stub.thunk)
    return site.following.offset + (4 if is_part and not is_alone else 0)


def _hoisted(old: Code, new: Code, site: Place) -> tuple[int, ...]:
    """The section offsets of the saves that a site relies on and that were none."""
    return new.saves_among(site, lambda at: new.calls.word(at) == STD_R2 != old.calls.word(at))


def hoist_fault(old: Code, new: Code, place: Place, *, kernel: bool) -> str:
    """Why the nop at `place` must not have become a save; empty if it may. That the save reaches a
    call is shown by `frame`; here, that the store does no harm, and that nobody needs the nop.

    `kernel` says that the object ends in a kernel, where nothing preempts a function.
    """
    call = place.after(-4)
    callee = old.calls.plain_call(call)
    if old.calls.word(place) != NOP or callee is None:
        return "it was not a nop after a call"
    return _callee_fault(old, call, callee, kernel=kernel) or _store_fault(old, new, place)


def save_fault(code: Code, place: Place, *, kernel: bool) -> str:
    """The same of a store that is there already, whoever made it."""
    call = place.after(-4)
    if (entry := code.calls.branches.get(call)) is not None:
        callee = code.calls.image.symbols[entry[0].symbol]
        if fault := _callee_fault(code, call, callee, kernel=kernel):
            return fault
        return _store_fault(code, code, place)
    return code.is_framed(place).fault


def _store_fault(old: Code, new: Code, place: Place) -> str:
    """What the store may harm, or what may change it."""
    return _named_by(old, place) or new.is_framed(place).fault or _slot_fault(new, place)


def _callee_fault(old: Code, call: Place, callee: Symbol, *, kernel: bool) -> str:
    """Why the call may come back with another r2, or why the linker may need the nop."""
    calls, image = old.calls, old.calls.image
    if callee.section <= 0:
        return f"only the image shows that {callee.name}, not defined here, preserves r2"
    if call in calls.sites:
        return "the call is a static call itself"
    if callee.type != STT_FUNC or callee.binding not in (STB_LOCAL, STB_GLOBAL):
        return f"{callee.name} may be replaced by another definition"
    if image.sections[callee.section].flags & SHF_GROUP:
        return f"{callee.name} may be replaced by that of another object"
    if callee.other >> 5 in (_ONE_ENTRY_NO_R2, _RESERVED):
        return f"{callee.name} does not preserve r2"
    if not calls.module and not kernel:
        return f"where {callee.name} can be preempted, the linker needs the nop (--hoist kernel)"
    return ""


def _named_by(old: Code, place: Place) -> str:
    """Which table names the nop or the call before it, so that the kernel may patch them."""
    entries = old.entries
    for named in (place, place.after(-4)):
        if named in entries.named or named in entries.taken:
            return f"{entries.named.get(named) or entries.taken[named]} names it"
    if entries.changes.patches.at(place) is not Patch.NONE:
        return "the kernel patches it when it starts"
    if old.calls.image.function_at(place) is None:
        return "no function symbol covers it"
    return ""


def _slot_fault(new: Code, place: Place) -> str:
    """What else the function may keep in 24(r1)."""
    at = new.other_store(place)
    return "" if at is None else f"another value may go to 24(r1) at +{at:#x}"
