"""Option 1 of the thread: the call site saves r2 before the call and restores it in the nop.

If r2 is in 24(r1) already, or nops before the call can store it there, only nops change. Otherwise
the call goes through a stub at the end of the caller's section, one for each trampoline. The
stub saves r2 and branches on to the trampoline, so that nothing sees what the trampoline does. A
call without a nop can go through a thunk of its own that calls, restores and branches back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scpatch import strategies
from scpatch.elf.additions import Additions
from scpatch.elf.reader import ElfFile
from scpatch.linux.offsets import Offsets
from scpatch.sites.actions import Action
from scpatch.sites.model import Scan, Site, Traces
from scpatch.strategies.base import Cost, Strategy
from scpatch.strategies.callsite.decide import NAME, Rewrite, decide, means, share
from scpatch.strategies.callsite.text import TEXT
from scpatch.strategies.plans import Plan


class CallSite(Strategy):
    name = NAME
    summary = "save r2 before each call, restore it in the nop after it"
    text = TEXT
    actions = Rewrite
    takes = frozenset({"unmark"})

    def find_traces(self, elf: ElfFile, patterns: Sequence[str]) -> Traces:
        from scpatch.strategies.callsite.traces import find_traces

        return find_traces(elf, patterns)

    def decide(self, elf: ElfFile, scan: Scan) -> tuple[Site, ...]:
        return decide(scan, stubs=set(scan.strategies) <= {NAME, *self.undone(scan)})

    def undone(self, scan: Scan) -> frozenset[str]:
        return strategies.undone(scan.strategies, scan.choices)

    def plan(self, elf: ElfFile, scan: Scan, additions: Additions, offsets: Offsets) -> Plan:
        from scpatch.strategies.callsite.plan import plan

        return plan(elf, scan, self.decide(elf, scan), additions)

    def cost(self, offsets: Offsets) -> Mapping[Action, Cost]:
        return {Rewrite.REWRITE: Cost(2, 2), Rewrite.SAVED: Cost(0, 0), Rewrite.THUNK: Cost(4, 4)}

    def means(self, plans: Sequence[Plan]) -> Mapping[str, int]:
        return means(plans)

    def share(self, plans: Sequence[Plan]) -> str:
        return share(plans)


STRATEGY = CallSite()
