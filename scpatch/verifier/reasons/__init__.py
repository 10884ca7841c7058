"""Why r2 is right after a call. Each strategy has one file here, which defines `STRATEGY`.

The files are found by name, so that a new strategy is one new file. `interface` says what the proof
asks of it. Here are the reasons of no strategy: what the linker, the loader or the function does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.relocations import NEED_NO_TOC, REL24
from scpatch.verifier.objects.variant import BL, LD_R2, NOP, NOPS, is_in_reach, without_distance
from scpatch.verifier.reasons.interface import Judgement, Strategy, restore_fault
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason


@cache
def strategies() -> tuple[type[Strategy], ...]:
    """All strategies, in the order of their names."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    return tuple(module.STRATEGY for module in modules if hasattr(module, "STRATEGY"))


@cache
def every_reason() -> tuple[Reason, ...]:
    """All states that a call can have, in the order in which they are reported."""
    by_strategy = (reason for strategy in strategies() for reason in strategy.reasons)
    return tuple(dict.fromkeys((*by_strategy, *Common)))


@cache
def image_patches() -> dict[Reason, str]:
    """The states of calls that were patched in a linked image, and the strategy that did it."""
    return {
        reason: strategy.name
        for strategy in strategies()
        if strategy.patches_images
        for reason in strategy.reasons
    }


def not_in_images(noted: Collection[str]) -> str:
    """Why the calls of an image that notes these strategies do not show that they are right; empty
    if they do."""
    faults = (strategy.not_in_images for strategy in strategies() if strategy.name in noted)
    return next(filter(None, faults), "")


def is_added_code(name: str) -> bool:
    """Whether a symbol has the name of code that a rewrite appends to sections."""
    patterns = (strategy.code_name for strategy in strategies())
    return any(pattern is not None and pattern.fullmatch(name) for pattern in patterns)


def judge(applied: Iterable[Strategy], code: Code, site: Site) -> Judgement:
    """Say why r2 is right after the call at `site`, or why not. One good reason is enough."""
    if site.rela.type in NEED_NO_TOC:
        return Judgement(Common.NOTOC, "its code does not use r2")
    for strategy in applied:
        if (judgement := strategy.judge_trampoline(code, site)) is not None:
            return judgement
    if fault := _form_fault(code, site):
        return Judgement(Common.WRONG, fault)
    answers = [answer for strategy in applied if (answer := strategy.judge(code, site)) is not None]
    for answer in answers:
        if answer.reason.right:
            return answer
    return answers[0] if answers else _judge_without_strategy(code, site)


def judge_in_image(word: int, stub: str) -> tuple[Reason, str] | None:
    """Why r2 is right after a call in a linked image; see `Strategy.judge_in_image`."""
    answers = (strategy.judge_in_image(word, stub) for strategy in strategies())
    return next((answer for answer in answers if answer is not None), None)


def _form_fault(code: Code, site: Site) -> str:
    """Why a call cannot be right, whatever follows it; else empty."""
    stub = site.stub
    if site.trampoline.is_data:
        return "its trampoline is data, by its type or its section"
    to_local = site.trampoline.local_entry - site.trampoline.place.offset
    if site.resolved and stub is None and site.distance == -to_local != 0:
        return "it goes to the trampoline's global entry point, which sets r2"
    if site.rela.type != REL24:
        return f"relocation type {site.rela.type}: a branch that saves nothing"
    if site.distance:
        callee = "trampoline" if stub is None else "stub"
        return f"it lands {site.distance:#x} bytes past the {callee}'s entry"
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


def _judge_without_strategy(code: Code, site: Site) -> Judgement:
    """Why r2 is right after a `bl` that no strategy explains, or why not."""
    calls, after = code.calls, code.calls.word(site.following)
    if site.trampoline.is_indirect:
        return _indirect(code, site, after)
    if calls.stub_by_loader(site.trampoline):
        if after == NOP:
            return Judgement(Common.LOADER, "the module loader saves and restores r2")
        return Judgement(Common.WRONG, "the module loader expects a nop after this call")
    if after != LD_R2:
        why = f"{_following(site, after)} follows: r2 stays what the target made it"
        return Judgement(Common.WRONG, why)
    return _by_function(code, site)


def _following(site: Site, after: int) -> str:
    """What follows a call without a restore."""
    if after not in NOPS:
        return "no nop"
    if site.trampoline.marked:
        return "the relocation names no marked symbol, so that no linker sees the mark: a nop"
    return "a nop"


def _indirect(code: Code, site: Site, after: int) -> Judgement:
    """A call of an STT_GNU_IFUNC."""
    named = code.calls.image.symbols[site.rela.symbol]
    if code.calls.module or site.resolved or named.type != site.trampoline.symbol.type:
        return Judgement(Common.WRONG, "no linker sees that it calls an STT_GNU_IFUNC")
    if after in NOPS or after == LD_R2:
        why = "it calls an STT_GNU_IFUNC: the linker's PLT stub saves r2, the linker restores it"
        return Judgement(Common.LINKER, why)
    return Judgement(Common.WRONG, f"{_following(site, after)} follows")


def _by_function(code: Code, site: Site) -> Judgement:
    """A call with a restore, which only the function itself can have saved r2 for."""
    if fault := restore_fault(code, site):
        return Judgement(Common.WRONG, fault)
    answer = code.is_saved(site.place)
    section = code.calls.image.sections[site.place.section].name
    restored = f"restored at {section}+{site.following.offset:#x}"
    if answer.fault:
        why = f"{restored}, no save was found: {answer.fault}"
        return Judgement(Common.RESTORED, why)
    why = f"the function saves r2 itself ({answer.named(section)}), {restored}"
    return Judgement(Common.SAVED, why)
