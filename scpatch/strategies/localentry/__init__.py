"""Option 3 of the thread: the trampolines have no local entry point, so the linker saves r2.

A defined trampoline gets st_other bits 5-7 = 1. Linkers take that for "does not preserve r2", send
each call through a stub of their own that saves r2, and make the restore of the nop. Control then
enters at what was the global entry point, with the caller's r2 and anything in r12, so that a
prologue which computes r2 from r12 is replaced in place.
"""

from __future__ import annotations

from collections.abc import Mapping

from scpatch.elf.additions import Additions
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.sites.actions import Action, Common
from scpatch.sites.choices import Choices
from scpatch.sites.model import Scan, Site
from scpatch.strategies.base import Cost, Strategy
from scpatch.strategies.localentry.decide import (
    decide,
    entered,
    first_at,
    make_ready,
    refused_calls,
)
from scpatch.strategies.localentry.mark import mark
from scpatch.strategies.localentry.text import TEXT
from scpatch.strategies.plans import Plan

NAME = "localentry"


class LocalEntry(Strategy):
    name = NAME
    summary = "mark the trampolines, so that the linker saves and restores r2"
    text = TEXT
    takes = frozenset({"offsets"})
    modules = False

    def decide(self, elf: ElfFile, scan: Scan) -> tuple[Site, ...]:
        return decide(scan)

    def plan(self, elf: ElfFile, scan: Scan, additions: Additions, offsets: Offsets) -> Plan:
        """Marks the trampolines, and readies their calls for the linker.

        Raises ScpatchError: SCP114 for an object with stubs, SCP225 for a module that defines a
        trampoline, SCP227 and SCP228 for a prologue that cannot be replaced.
        """
        defined = [
            trampoline
            for trampoline in scan.trampolines
            if trampoline.defined and not trampoline.indirect
        ]
        if scan.module and defined:
            raise ScpatchError("SCP225", f"the module defines {defined[0].name}", file=elf.name)
        if scan.stubs:
            detail = f"has {scan.stubs[0].name}, which another strategy added"
            raise ScpatchError("SCP114", detail, file=elf.name)
        sites = decide(scan)
        refused, first = refused_calls(sites), first_at(scan)
        wanted = [
            trampoline
            for trampoline in defined
            if not trampoline.marked and trampoline.name not in refused
        ]
        stubs, edits = mark(elf, additions, wanted, offsets.paca_toc)
        for site in sites:
            trampoline = entered(site, first) if site.state is Common.LINKER else None
            if trampoline is not None:
                make_ready(additions, site, trampoline)
        return Plan(NAME, sites, tuple(stubs), tuple(edits))

    def cost(self, offsets: Offsets) -> Mapping[Action, Cost]:
        # Two for the linker's stub. The rest computes r2 in the trampoline.
        more = 4 if offsets.paca_toc is not None else 10
        return {Common.LINKER: Cost(more, more)}

    def is_undone(self, choices: Choices) -> bool:
        return choices.unmark


STRATEGY = LocalEntry()
