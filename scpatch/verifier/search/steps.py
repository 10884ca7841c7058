"""What must have held before one instruction so that a need is met after it; see `frame`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, auto

from scpatch.verifier.objects.insn import CallEffect, Effect, Flow, flow
from scpatch.verifier.objects.variant import FRAME_HEADER
from scpatch.verifier.search.function import Function, NotShownError

_STDU_R1 = 0xF821
"""`stdu r1,N(r1)`, upper half."""


class Need(IntEnum):
    SLOT = auto()
    """24(r1) must hold the function's r2."""
    R2 = auto()
    """r2 must hold the function's r2."""
    FRAME = auto()
    """r1 must point at a frame that the function has pushed."""


def at_entry(function: Function, offset: int, need: Need) -> None:
    """A need at the function's entry point."""
    if need is Need.SLOT:
        raise NotShownError("a path leads from the function's entry to the call without a save")
    if need is Need.FRAME:
        raise NotShownError("a path leads from the function's entry there without a frame")
    for source in function.entries.into(function.place(offset)):
        # A loop back to the entry, not a call of it: r2 need not be the entry's any more.
        if source.section == function.symbol.section and (
            function.start <= source.offset < function.end
            and flow(function.word(source.offset)) is not Flow.CALL
        ):
            raise NotShownError("the function branches back to its own entry")


def step(function: Function, at: int, need: Need) -> Iterable[Need]:
    """What must hold before the instruction at `at` so that `need` holds after it."""
    if reason := function.entries.changes.unknown(function.place(at)):
        raise NotShownError(f"the instruction at +{at:#x} {reason}")
    needs = _as_it_says(function, at, need)
    if not function.unsure(at) or _goes_with_its_call(function, at):
        return needs
    # What may be a nop changes nothing: what is needed after it is needed before it too.
    return {*needs, need}


def _goes_with_its_call(function: Function, at: int) -> bool:
    """Whether the instruction restores r2 after a static call, and is there if that is. Without
    both r2 is what it was before the call, where it must be right for the call, too."""
    call = function.place(at - 4)
    is_whole = function.entries.changes.with_the_word_before(function.place(at))
    restores = function.effect(at) is Effect.RESTORE
    return is_whole and restores and function.entries.calls.is_static_call(call)


def _as_it_says(function: Function, at: int, need: Need) -> Iterable[Need]:
    kind = flow(function.word(at))
    if need is Need.FRAME:
        return _frame(function, at, kind)
    if kind is Flow.INDIRECT_CALL:
        if need is Need.R2:
            raise NotShownError(f"r2 is clobbered by the indirect call at +{at:#x}")
        return (Need.SLOT,)
    call = function.entries.calls.call_effect(function.place(at)) if kind is not Flow.NEXT else None
    if call is not None:
        return _call(call, at, need)
    does = function.effect(at)
    if does is Effect.UNKNOWN:
        raise NotShownError(f"the instruction at +{at:#x} is unknown")
    if need is Need.SLOT:
        if does is Effect.SAVE:
            return (Need.R2,)
        if does in (Effect.MOVES_R1, Effect.WRITES_SLOT):
            what = "r1 changes" if does is Effect.MOVES_R1 else "another value may go to 24(r1)"
            raise NotShownError(f"{what} at +{at:#x}")
        return (Need.SLOT,)
    if does is Effect.RESTORE:
        return (Need.SLOT,)
    if does is Effect.WRITES_R2:
        raise NotShownError(f"r2 is written at +{at:#x}")
    return (Need.R2,)


def _frame(function: Function, at: int, kind: Flow) -> Iterable[Need]:
    """What must hold before an instruction so that the frame after it is the function's."""
    if kind is not Flow.NEXT:
        return (Need.FRAME,)
    does, word = function.effect(at), function.word(at)
    if does is Effect.UNKNOWN:
        raise NotShownError(f"the instruction at +{at:#x} is unknown")
    if does is not Effect.MOVES_R1:
        return (Need.FRAME,)
    if (
        word >> 16 == _STDU_R1
        and word & 3 == 1
        and 0x8000 <= word & 0xFFFC <= 0x10000 - FRAME_HEADER
    ):
        return ()
    raise NotShownError(f"r1 changes at +{at:#x}")


def _call(call: CallEffect, at: int, need: Need) -> Iterable[Need]:
    """A direct call."""
    if call is CallEffect.SAVES_AND_RESTORES or (call is CallEffect.SAVES and need is Need.SLOT):
        return (Need.R2,)
    if need is Need.R2:
        if call is not CallEffect.PRESERVES:
            raise NotShownError(f"r2 may be clobbered by the call at +{at:#x}")
        return (Need.R2,)
    # A linker's stub may store r2 in the slot, so both must hold.
    return (Need.SLOT, Need.R2)
