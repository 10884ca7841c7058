"""Option 1 of the thread: the call site saves r2 before the call and restores it in the nop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from scpatch import strategies
from scpatch.elf.additions import Additions
from scpatch.elf.reader import ElfFile
from scpatch.linux.offsets import Offsets
from scpatch.sites.actions import Action
from scpatch.sites.choices import NoNop
from scpatch.sites.model import NOP_FAULTS, Kind, Scan, Site, Traces, Trampoline
from scpatch.strategies.base import Cost, Strategy
from scpatch.strategies.plans import Plan

NAME = "callsite"
TEXT = """\
Each `bl __SCT__x; nop` becomes a call that saves r2 in the TOC save doubleword, 24(r1), with
`ld r2,24(r1)` in place of the nop. A stub at the end of the caller's section saves r2:

    r2save.__SCT__x.DIGEST:
            std     r2,24(r1)
            b       __SCT__x

If r2 is at 24(r1) already on every path to the call, in the same stack frame, the call needs no
stub and only the nop changes. The same holds if the nop after an earlier call of the function can
become `std r2,24(r1)` (`--hoist`).

--unmark removes marks that another strategy has made, or that the kernel has in its source:
trampolines with st_other bits 5-7 = 1 become functions with one entry point. Then no linker makes
stubs for their calls, and scpatch rewrites the calls. Treat all objects of a link alike, before
that link.

It works on any object at build time, and needs nothing from the trampolines, the kernel or the
module loader. Each call executes an extra store and branch, also if the target has the caller's
TOC. If r2 was saved already, it executes no extra instruction. It is option 1 of the thread
"Out-of-line static calls for powerpc64 ELF V2" (linuxppc-dev, September 2022)."""


class Rewrite(Action):
    REWRITE = (
        *("rewrite", "to rewrite"),
        "needs a stub that saves r2, and the nop after it becomes the restore",
    )
    SAVED = (
        *("saved", "to restore only (r2 is saved already)"),
        "r2 is at 24(r1) on every path to it, or nops before it can put it there: only nops change",
    )
    THUNK = (
        *("thunk", "to get a thunk"),
        "has no usable nop, and needs a thunk of its own (--no-nop thunk)",
    )


class CallSite(Strategy):
    name = NAME
    summary = "save r2 before each call, restore it in the nop after it"
    text = TEXT
    actions = Rewrite
    hoists = True
    takes = frozenset({"unmark"})

    def find_traces(self, elf: ElfFile, patterns: Sequence[str]) -> Traces:
        from scpatch.strategies.callsite.traces import find_traces

        return find_traces(elf, patterns)

    def decide(self, elf: ElfFile, scan: Scan) -> tuple[Site, ...]:
        return _decide(scan, stubs=set(scan.strategies) <= {NAME, *self.undone(scan)})

    def undone(self, scan: Scan) -> frozenset[str]:
        return strategies.undone(scan.strategies, scan.choices)

    def plan(self, elf: ElfFile, scan: Scan, additions: Additions, offsets: Offsets) -> Plan:
        from scpatch.strategies.callsite.plan import plan

        return plan(elf, scan, self.decide(elf, scan), additions)

    def cost(self, offsets: Offsets) -> Mapping[Action, Cost]:
        return {Rewrite.REWRITE: Cost(2, 2), Rewrite.SAVED: Cost(0, 0), Rewrite.THUNK: Cost(4, 4)}

    def means(self, plans: Sequence[Plan]) -> Mapping[str, int]:
        states, hoisted = _counts(plans)
        added = Counter(stub.is_thunk for plan in plans for stub in plan.stubs)
        counts = {
            f"by {_number(added[False], 'stub')}": states[Rewrite.REWRITE],
            "saved already": states[Rewrite.SAVED] - hoisted,
            f"by {_number(added[True], 'thunk')}": states[Rewrite.THUNK],
            "saved in nops": hoisted,
        }
        return {words: number for words, number in counts.items() if number}

    def share(self, plans: Sequence[Plan]) -> str:
        states, hoisted = _counts(plans)
        saved = states[Rewrite.SAVED]
        changed = saved + states[Rewrite.REWRITE] + states[Rewrite.THUNK]
        if not changed:
            return ""
        text = f"without a stub: {saved:,} of {changed:,} changed sites ({saved / changed:.1%})"
        return text + (f", {hoisted:,} of them saved in nops" if hoisted else "")


STRATEGY = CallSite()


def _decide(scan: Scan, *, stubs: bool) -> tuple[Site, ...]:
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
        if thunks and site.kind in NOP_FAULTS and not _needs_nop(scan, site):
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


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"
