"""Option 3 of the thread: the trampolines have no local entry point, so the linker saves r2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scpatch.elf.additions import Additions
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.ppc64 import insn, relocs
from scpatch.sites.actions import Action, Common
from scpatch.sites.choices import Choices
from scpatch.sites.model import Kind, Place, Scan, Site, Trampoline
from scpatch.sites.pc_relative import needing_r2, pc_relative_places
from scpatch.strategies.base import Cost, Strategy
from scpatch.strategies.localentry.mark import mark
from scpatch.strategies.plans import Plan

NAME = "localentry"
TEXT = """\
Each trampoline that the object defines is marked as a function that does not preserve r2 (st_other
bits 5-7 = 1, the assembler's `.localentry NAME,1`). GNU ld and lld then send every call of it
through a stub `std r2,24(r1); b __SCT__x`, also calls from other objects, and turn the nop after
the call into `ld r2,24(r1)`. The call sites stay as they are, with two exceptions. A nop becomes
the one that lld knows. A relocation that names a section names the trampoline instead, because no
linker sees the mark otherwise.

A marked trampoline is entered with the caller's r2 and anything in r12, so scpatch replaces a
prologue that computes r2 from r12. With --asm-offsets or --paca-toc-offset, for a kernel image, it
loads r2 from the PACA: `ld r2,PACATOC(r13)`. Without either it branches to code at the end of the
section that computes r2 from its own address. Do not give an offset for code that runs with
another PACA. A .ko is refused: no linker follows, and the module loader of Linux 6.1 ignores the
mark. Rewrite modules with the default strategy. A trampoline in pc-relative code (Power10) is
marked only if the object calls it from code that uses r2.

The linkers silently leave some calls without a stub or a restore. scpatch refuses those, and
`scpatch verify IMAGE` finds them in the linked image. It is option 3 of the thread "Out-of-line
static calls for powerpc64 ELF V2" (linuxppc-dev, September 2022), and what its version 4 did."""


class LocalEntry(Strategy):
    name = NAME
    summary = "mark the trampolines, so that the linker saves and restores r2"
    text = TEXT
    takes = frozenset({"offsets"})
    modules = False

    def decide(self, elf: ElfFile, scan: Scan) -> tuple[Site, ...]:
        return _decide(scan)

    def plan(self, elf: ElfFile, scan: Scan, additions: Additions, offsets: Offsets) -> Plan:
        """Marks the trampolines, and readies their calls for the linker.

        Raises ScpatchError: SCP114 for an object with stubs, SCP225 for a module that defines a
        trampoline, SCP227 and SCP228 for a prologue that cannot be replaced.
        """
        alone = pc_relative_places(elf, scan) - needing_r2(scan)
        defined = [
            trampoline
            for trampoline in scan.trampolines
            if trampoline.defined
            and not trampoline.indirect
            and trampoline.entry_place not in alone
        ]
        if scan.module and defined:
            raise ScpatchError("SCP225", f"the module defines {defined[0].name}", file=elf.name)
        if scan.stubs:
            detail = f"has {scan.stubs[0].name}, which another strategy added"
            raise ScpatchError("SCP114", detail, file=elf.name)
        sites = _decide(scan)
        if defined:
            # A mark does not make them pc-relative: with their targets they still need r12, which a
            # call without a TOC only has from the linker's stub. So the kernel may not patch it.
            sites = tuple(site._replace(may_patch=False) for site in sites)
        refused, first = _refused_calls(sites), _first_at(scan)
        wanted = [
            trampoline
            for trampoline in defined
            if not trampoline.marked and trampoline.name not in refused
        ]
        stubs, edits = mark(elf, additions, wanted, offsets.paca_toc)
        for site in sites:
            trampoline = _entered(site, first) if site.state is Common.LINKER else None
            if trampoline is not None:
                _make_ready(additions, site, trampoline)
        return Plan(NAME, sites, tuple(stubs), tuple(edits))

    def cost(self, offsets: Offsets) -> Mapping[Action, Cost]:
        # Two for the linker's stub. The rest computes r2 in the trampoline.
        more = 4 if offsets.paca_toc is not None else 10
        return {Common.LINKER: Cost(more, more)}

    def is_undone(self, choices: Choices) -> bool:
        return choices.unmark


STRATEGY = LocalEntry()


def _decide(scan: Scan) -> tuple[Site, ...]:
    """The decided sites.

    A trampoline stays unmarked if another call of it is refused. Marking it would turn that call,
    which loses r2, into one that the linker refuses, or that writes to another function's frame.
    """
    sites = [_judge(site) for site in scan.sites]
    first = _first_at(scan)
    refused = _refused_calls(sites)

    def check(site: Site) -> Site:
        trampoline = _entered(site, first) if site.state is Common.LINKER else None
        if trampoline is None or trampoline.marked or trampoline.name not in refused:
            return site
        other = refused[trampoline.name]
        return site.refused("SCP229", f"the call at {other.place} is refused")

    return tuple(map(check, sites))


def _judge(site: Site) -> Site:
    callee = site.callee
    if site.kind not in (Kind.OPEN, Kind.UNNAMED) or not isinstance(callee, Trampoline):
        return site.settled
    if site.relocation < 0:
        return site.refused("SCP212", "the call has no relocation, so that no linker sees it")
    if callee.reserved:
        detail = f"{callee.name} is in no section (st_shndx {callee.reserved:#x})"
        return site.refused("SCP249", detail)
    detail = "the linker saves and restores r2"
    if not callee.defined:
        detail += ", once the trampoline is marked where it is defined"
    return site._replace(state=Common.LINKER, code="", detail=detail)


def _refused_calls(sites: Sequence[Site]) -> dict[str, Site]:
    """The last refused call by the trampoline's name."""
    return {site.trampoline: site for site in sites if site.state is Common.REFUSED}


def _first_at(scan: Scan) -> dict[Place, Trampoline]:
    """The first of the trampolines that share an entry point."""
    first: dict[Place, Trampoline] = {}
    for trampoline in scan.trampolines:
        first.setdefault(trampoline.entry_place, trampoline)
    return first


def _entered(site: Site, first: dict[Place, Trampoline]) -> Trampoline | None:
    """The trampoline that a relocation of a call is to name."""
    callee = site.callee
    if not isinstance(callee, Trampoline):
        return None
    return callee if site.symbol == callee.symbol else first[callee.entry_place]


def _make_ready(additions: Additions, site: Site, trampoline: Trampoline) -> None:
    """Changes a site so that every linker makes stub and restore for it."""
    if site.symbol != trampoline.symbol:
        # Linkers look at the st_other of the symbol that the relocation names.
        additions.retarget(site.section, site.relocation, trampoline.symbol, relocs.R_PPC64_REL24)
    if site.after in insn.NOPS and site.after != insn.NOP:
        additions.patch_words(site.section, site.offset + 4, insn.NOP)
