"""What became of one call: its state, and whether it may have been changed so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.read import Place
from scpatch.verifier.objects.relocations import REL24
from scpatch.verifier.objects.variant import BL, NOPS, without_distance
from scpatch.verifier.proof import hoist
from scpatch.verifier.reasons import judge
from scpatch.verifier.reasons.interface import Judgement, Strategy, changed_words
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason, SiteProof


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
        is_ours = now.reason is Common.SAVED
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
            resume=now.resume,
            saved_before=now.saved_before,
            loader=now.reason is Common.LOADER,
            marked=now.reason is Common.LINKER,
            paca_toc=now.paca_toc,
            hoisted=hoist.hoisted(self.before, self.after, place) if is_ours else (),
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
        owners = (strategy for strategy in self.strategies if proof.state in strategy.reasons)
        return next(owners, None)

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
