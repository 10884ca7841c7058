"""What becomes of a call site when its trampoline is marked."""

from __future__ import annotations

from collections.abc import Sequence

from scpatch.elf.additions import Additions
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.variant import VARIANT
from scpatch.sites.actions import Common
from scpatch.sites.model import Kind, Place, Scan, Site, Trampoline


def decide(scan: Scan) -> tuple[Site, ...]:
    """The decided sites.

    A trampoline stays unmarked if another call of it is refused. Marking it would turn that call,
    which loses r2, into one that the linker refuses, or that writes to another function's frame.
    """
    sites = [_judge(site) for site in scan.sites]
    first = first_at(scan)
    refused = refused_calls(sites)

    def check(site: Site) -> Site:
        trampoline = entered(site, first) if site.state is Common.LINKER else None
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


def refused_calls(sites: Sequence[Site]) -> dict[str, Site]:
    """The last refused call by the trampoline's name."""
    return {site.trampoline: site for site in sites if site.state is Common.REFUSED}


def first_at(scan: Scan) -> dict[Place, Trampoline]:
    """The first of the trampolines that share an entry point."""
    first: dict[Place, Trampoline] = {}
    for trampoline in scan.trampolines:
        first.setdefault((trampoline.section, trampoline.value), trampoline)
    return first


def entered(site: Site, first: dict[Place, Trampoline]) -> Trampoline | None:
    """The trampoline that a relocation of a call is to name."""
    callee = site.callee
    if not isinstance(callee, Trampoline):
        return None
    return callee if site.symbol == callee.symbol else first[callee.section, callee.value]


def make_ready(additions: Additions, site: Site, trampoline: Trampoline) -> None:
    """Changes a site so that every linker makes stub and restore for it."""
    if site.symbol != trampoline.symbol:
        # Linkers look at the st_other of the symbol that the relocation names.
        additions.retarget(site.section, site.relocation, trampoline.symbol, relocs.R_PPC64_REL24)
    if site.after in insn.NOPS and site.after != insn.NOP:
        additions.patch(site.section, site.offset + 4, VARIANT.encode(insn.NOP))
