"""The reasons of no strategy: what the linker, the loader or the function does for a call."""

from __future__ import annotations

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.relocations import REL24
from scpatch.verifier.objects.variant import BL, LD_R2, NOP, NOPS, is_in_reach, without_distance
from scpatch.verifier.reasons.interface import Judgement, restore_fault, resume
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common


def form_fault(code: Code, site: Site) -> str:
    """Why a call cannot be right, whatever follows it; else empty."""
    stub = site.stub
    if site.trampoline.is_data:
        return "its trampoline is data, by its type or its section"
    if site.resolved and site.distance:
        return "it goes to the trampoline's global entry point, which sets r2"
    if site.rela.type != REL24:
        return f"relocation type {site.rela.type}: a branch that saves nothing"
    if site.distance:
        return f"it lands {site.distance:#x} bytes past the trampoline's entry"
    if site.place.offset % 4:
        return "it is at no instruction"
    if stub is not None and stub.fault:
        return f"{stub.symbol.name}: {stub.fault}"
    if stub is not None and (
        site.place.section != stub.place.section
        or not is_in_reach(site.place.offset, stub.place.offset)
    ):
        return f"{stub.symbol.name} is in another section or out of reach"
    is_call = without_distance(code.calls.word(site.place)) == BL
    if not is_call and not (stub is not None and stub.thunk):
        return "a sibling call: nothing can restore r2 after it"
    return ""


def judge(code: Code, site: Site) -> Judgement:
    """Why r2 is right after a `bl` that no strategy explains, or why not."""
    calls, after, end = code.calls, code.calls.word(site.following), resume(code, site)
    if site.trampoline.is_indirect:
        return _indirect(code, site, after, end)
    if calls.stub_by_loader(site.trampoline):
        if after == NOP:
            return Judgement(Common.LOADER, "the module loader saves and restores r2", end)
        return Judgement(Common.WRONG, "the module loader expects a nop after this call", end)
    if after != LD_R2:
        why = f"{_following(site, after)} follows: r2 stays what the target made it"
        return Judgement(Common.WRONG, why, end)
    return _by_function(code, site, end)


def _following(site: Site, after: int) -> str:
    """What follows a call without a restore."""
    if after not in NOPS:
        return "no nop"
    if site.trampoline.marked:
        return "the relocation names no marked symbol, so that no linker sees the mark: a nop"
    return "a nop"


def _indirect(code: Code, site: Site, after: int, end: int) -> Judgement:
    """A call of an STT_GNU_IFUNC."""
    named = code.calls.image.symbols[site.rela.symbol]
    if code.calls.module or site.resolved or named.type != site.trampoline.symbol.type:
        return Judgement(Common.WRONG, "no linker sees that it calls an STT_GNU_IFUNC", end)
    if after in NOPS or after == LD_R2:
        why = "it calls an STT_GNU_IFUNC: the linker's PLT stub saves r2, the linker restores it"
        return Judgement(Common.LINKER, why, end)
    return Judgement(Common.WRONG, f"{_following(site, after)} follows", end)


def _by_function(code: Code, site: Site, end: int) -> Judgement:
    """A call with a restore, which only the function itself can have saved r2 for."""
    if fault := restore_fault(code, site):
        return Judgement(Common.WRONG, fault, end)
    answer = code.is_saved(site.place)
    section = code.calls.image.sections[site.place.section].name
    restored = f"restored at {section}+{site.following.offset:#x}"
    if answer.fault:
        why = f"{restored}, no save was found: {answer.fault}"
        return Judgement(Common.RESTORED, why, end, saved_before=True)
    why = f"the function saves r2 itself ({answer.named(section)}), {restored}"
    return Judgement(Common.SAVED, why, end, saved_before=True)
