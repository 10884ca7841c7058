"""Why r2 is right after a call. Each strategy has one file here, which defines `STRATEGY`.

The files are found by name, so that a new strategy is one new file. `interface` says what the proof
asks of it, and `common` has the reasons that belong to no strategy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.relocations import NEED_NO_TOC
from scpatch.verifier.reasons import common
from scpatch.verifier.reasons.interface import Judgement, Strategy, resume
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason


@cache
def strategies() -> tuple[type[Strategy], ...]:
    """All strategies, in the order of their names."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    found = (getattr(module, "STRATEGY", None) for module in modules)
    return tuple(strategy for strategy in found if strategy is not None)


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
        return Judgement(Common.NOTOC, "its code does not use r2", site.following.offset)
    for strategy in applied:
        if (found := strategy.judge_trampoline(code, site)) is not None:
            return found
    if fault := common.form_fault(code, site):
        return Judgement(Common.WRONG, fault, resume(code, site))
    answers = [answer for strategy in applied if (answer := strategy.judge(code, site)) is not None]
    for answer in answers:
        if answer.reason.right:
            return answer
    return answers[0] if answers else common.judge(code, site)


def judge_in_image(word: int, stub: str) -> tuple[Reason, str] | None:
    """Why r2 is right after a call in a linked image; see `Strategy.judge_in_image`."""
    answers = (strategy.judge_in_image(word, stub) for strategy in strategies())
    return next((answer for answer in answers if answer is not None), None)
