"""What becomes of a call site when its caller saves r2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from scpatch.sites.actions import Action
from scpatch.sites.choices import NoNop
from scpatch.sites.model import Kind, Scan, Site, Trampoline
from scpatch.strategies.plans import Plan

NAME = "callsite"


class Rewrite(Action):
    REWRITE = "rewrite", "to rewrite"
    """`bl` + nop: a stub saves r2, and the nop becomes the restore."""
    SAVED = "saved", "to restore only (r2 is saved already)"
    """r2 is in 24(r1) on every path to the call, or nops before it can put it there: only nops
    change."""
    THUNK = "thunk", "to get a thunk"
    """`bl` without a usable nop: the call goes through a thunk of its own (`--no-nop thunk`)."""


_FOR_THUNKS = frozenset({Kind.NO_NOP, Kind.ENTERED, Kind.RELOCATED, Kind.PATCHED})


def decide(scan: Scan, *, stubs: bool) -> tuple[Site, ...]:
    """The decided sites. `stubs` says that nothing else in the file preserves r2."""
    thunks = scan.choices.no_nop is NoNop.THUNK

    def decided(site: Site) -> Site:
        callee = site.callee
        if site.kind is Kind.OPEN and site.saved:
            return site._replace(state=Rewrite.SAVED, detail=_saved(site))
        if site.kind is Kind.OPEN:
            unfit = isinstance(callee, Trampoline) and not callee.fits_stub
            if not unfit or not stubs:
                return site._replace(state=Rewrite.REWRITE)
            detail = f"a stub cannot branch to {site.trampoline}, which is weak and undefined"
            return site.refused("SCP245", detail)
        if thunks and site.kind in _FOR_THUNKS and not _needs_nop(scan, site):
            return site._replace(state=Rewrite.THUNK)
        return site.settled

    return tuple(map(decided, scan.sites))


def _saved(site: Site) -> str:
    if not site.saves:
        return "r2 is in 24(r1) on every path to the call"
    where = ", ".join(f"{site.section_name}+{nop:#x}" for nop in site.saves)
    return f"r2 can be saved in {where}, after earlier calls"


def _needs_nop(scan: Scan, site: Site) -> bool:
    """Whether a linker or the module loader wants a nop after the call in a thunk as well."""
    callee = site.callee
    if not isinstance(callee, Trampoline):
        return False
    if scan.module:
        return callee.loaded
    return callee.marked and not scan.choices.unmark


def _counts(plans: Sequence[Plan]) -> tuple[Counter[Action], int]:
    """How many sites there are of each state, and for how many nops save r2."""
    sites = [site for plan in plans for site in plan.sites]
    hoisted = sum(site.state is Rewrite.SAVED and bool(site.saves) for site in sites)
    return Counter(site.state for site in sites), hoisted


def means(plans: Sequence[Plan]) -> Mapping[str, int]:
    """See `Strategy.means`."""
    states, hoisted = _counts(plans)
    added = Counter(stub.is_thunk for plan in plans for stub in plan.stubs)
    counts = {
        f"by {_number(added[False], 'stub')}": states[Rewrite.REWRITE],
        "saved already": states[Rewrite.SAVED] - hoisted,
        f"by {_number(added[True], 'thunk')}": states[Rewrite.THUNK],
        "saved in nops": hoisted,
    }
    return {words: number for words, number in counts.items() if number}


def share(plans: Sequence[Plan]) -> str:
    """See `Strategy.share`."""
    states, hoisted = _counts(plans)
    saved = states[Rewrite.SAVED]
    changed = saved + states[Rewrite.REWRITE] + states[Rewrite.THUNK]
    if not changed:
        return ""
    text = f"without a stub: {saved:,} of {changed:,} changed sites ({saved / changed:.1%})"
    return text + (f", {hoisted:,} of them saved in nops" if hoisted else "")


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"
