"""Nops behind other calls that became `std r2,24(r1)`, so that r2 is saved for a call further on.

That such a save reaches the call is shown by `frame`. Here it is shown that the store itself does
no harm, and that nobody else needs the nop.
"""

from __future__ import annotations

from scpatch.verifier.objects.patches import Patch
from scpatch.verifier.objects.read import STB_GLOBAL, STB_LOCAL, STT_FUNC, Place, Symbol
from scpatch.verifier.objects.variant import NOP, STD_R2
from scpatch.verifier.search.frame import Code

_SHF_GROUP = 0x200
_ONE_ENTRY_NO_R2, _RESERVED = 1, 7


def _became_save(old: Code, new: Code, place: Place) -> bool:
    """Whether the word at `place` is a save of r2 that was none."""
    return new.calls.word(place) == STD_R2 != old.calls.word(place)


def hoisted(old: Code, new: Code, site: Place) -> tuple[int, ...]:
    """The section offsets of the saves that a site relies on and that were none."""
    return new.saves_among(site, lambda place: _became_save(old, new, place))


def fault(old: Code, new: Code, place: Place, *, kernel: bool) -> str:
    """Why the nop at `place` must not have become a save; empty where it may.

    `kernel` says that the object ends in a kernel, where nothing preempts a function.
    """
    call = place.after(-4)
    callee = old.calls.plain_call(call)
    if old.calls.word(place) != NOP or callee is None:
        return "it was not a nop after a call"
    return (
        _callee(old, call, callee, kernel=kernel)
        or _named(old, place)
        or _slot(new, place)
        or new.is_framed(place).fault
    )


def _callee(old: Code, call: Place, callee: Symbol, *, kernel: bool) -> str:
    """Why the call may come back with another r2, or why the linker may need the nop."""
    calls, image = old.calls, old.calls.image
    if callee.section <= 0:
        return f"{callee.name} is not defined here, so that the call may need a restore"
    if call in calls.sites:
        return "the call is a static call itself"
    if callee.type != STT_FUNC or callee.binding not in (STB_LOCAL, STB_GLOBAL):
        return f"{callee.name} may be replaced by another definition"
    if image.sections[callee.section].flags & _SHF_GROUP:
        return f"{callee.name} may be replaced by that of another object"
    if callee.other >> 5 in (_ONE_ENTRY_NO_R2, _RESERVED):
        return f"{callee.name} does not preserve r2"
    if not calls.module and not kernel:
        return f"where {callee.name} can be preempted, the linker needs the nop (--hoist kernel)"
    return ""


def _named(old: Code, place: Place) -> str:
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


def _slot(new: Code, place: Place) -> str:
    """What else the function may keep in 24(r1)."""
    at = new.other_store(place)
    return "" if at is None else f"another value may go to 24(r1) at +{at:#x}"
