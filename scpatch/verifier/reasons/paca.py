"""Strategy `paca`: the word after a call loads r2 from the PACA, `ld r2,PACATOC(r13)`.

That is right in the kernel image, where r2 is the same everywhere, and wrong in a module. Unlike a
restore from 24(r1), it needs no save before, and does no harm if control comes to the word without
the call: whoever runs the image's code has this r2 already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.insn import toc_load
from scpatch.verifier.reasons.interface import (
    Judgement,
    Strategy,
    Surroundings,
    change_fault,
    only_the_nop,
    open_load,
)
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason


class _Reason(Reason):
    PACA = "paca", "loaded from PACA", "the word after it loads r2 from the PACA", True


class _Paca(Strategy):
    name = "paca"
    reasons = tuple(_Reason)
    patches_images = True

    def judge(self, code: Code, site: Site) -> Judgement | None:
        offset = toc_load(code.calls.word(site.following))
        if offset is None or (site.stub is not None and site.stub.thunk):
            return None
        if code.calls.module:
            why = f"ld r2,{offset}(r13) loads the kernel's TOC pointer, and this is a module"
            return Judgement(Common.WRONG, why)
        if site.trampoline.marked:
            why = "st_other = 1: the linker wants a nop after the call"
            return Judgement(Common.WRONG, why)
        if fault := change_fault(code, site):
            return Judgement(Common.WRONG, fault)
        why = f"r2 is loaded from the PACA, {offset}(r13)"
        return Judgement(_Reason.PACA, why, offset)

    def judge_alone(
        self, site: Site, found: Judgement, known: Surroundings
    ) -> tuple[Reason, str] | None:
        if found.paca_toc is None:
            return None
        if fault := open_load(found.paca_toc, known):
            return fault
        if not known.for_image:
            why = f"{found.why}: right in the kernel's image, wrong in a module"
            return Common.OPEN, f"{why}; --image says that it ends in the image"
        return None

    @classmethod
    def judge_in_image(cls, word: int, stub: str) -> tuple[Reason, str] | None:
        offset = toc_load(word)
        if offset is None:
            return None
        return _Reason.PACA, f"r2 is loaded from {offset}(r13) after the call"

    def call_faults(self, was: Site, now: Site, reason: Reason) -> Iterator[str]:
        yield from only_the_nop(was, now)


STRATEGY: Final = _Paca
