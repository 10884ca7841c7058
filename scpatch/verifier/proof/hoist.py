"""Nops behind other calls that became `std r2,24(r1)`, so that r2 is saved for a call further on.

That such a save reaches the call is shown by `frame`. Here it is shown that the store itself does
no harm, and that nobody else needs the nop.
"""

from __future__ import annotations

from scpatch.verifier.objects.patches import Patch
from scpatch.verifier.objects.read import STB_GLOBAL, STB_LOCAL, STT_FUNC, Place, Symbol
from scpatch.verifier.objects.variant import STD_R2
from scpatch.verifier.search.entries import Entries
from scpatch.verifier.search.frame import is_framed, other_store, saves_among

_NOP = 0x60000000
_SHF_GROUP = 0x200
_ONE_ENTRY_NO_R2, _RESERVED = 1, 7


def _became_save(old: Entries, new: Entries, place: Place) -> bool:
    """Whether the word at `place` is a save of r2 that was none."""
    return new.calls.word(place) == STD_R2 != old.calls.word(place)


def hoisted(old: Entries, new: Entries, site: Place) -> tuple[int, ...]:
    """The section offsets of the saves that a site relies on and that were none."""
    return saves_among(new, site, lambda place: _became_save(old, new, place))


def fault(old: Entries, new: Entries, place: Place, *, kernel: bool) -> str:
    """Why the nop at `place` must not have become a save; empty where it may.

    `kernel` says that the object ends in a kernel, where nothing preempts a function.
    """
    call = Place(place.section, place.offset - 4)
    callee = old.calls.plain_call(call)
    if old.calls.word(place) != _NOP or callee is None:
        return "it was no nop behind a call"
    return (
        _callee(old, call, callee, kernel=kernel)
        or _named(old, place)
        or _slot(new, place)
        or is_framed(new, place).fault
    )


def _callee(old: Entries, call: Place, callee: Symbol, *, kernel: bool) -> str:
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


def _named(old: Entries, place: Place) -> str:
    """Which table names the nop or the call before it, so that the kernel may patch them."""
    for one in (place, Place(place.section, place.offset - 4)):
        if one in old.named or one in old.taken:
            return f"{old.named.get(one) or old.taken[one]} names it"
    if old.changes.patches.at(place) is not Patch.NONE:
        return "the kernel patches it when it starts"
    if old.calls.image.function_at(place) is None:
        return "no function symbol covers it"
    return ""


def _slot(new: Entries, place: Place) -> str:
    """What else the function may keep in 24(r1)."""
    at = other_store(new, place)
    return "" if at is None else f"another value may go to 24(r1) at +{at:#x}"
