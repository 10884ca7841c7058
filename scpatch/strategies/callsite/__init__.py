"""Option 1 of the thread: the call site saves r2 before the call and restores it in the nop.

Where r2 lies in 24(r1) already, or nops before the call can store it there, only nops change. Else
the call goes through a stub at the end of the caller's section, one a section and trampoline; it
saves r2 and branches on to the trampoline, so that what the trampoline does is seen by nobody. A
call without a nop can go through a thunk of its own that calls, restores and branches back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scpatch.elf.additions import Additions, NewRelocation, NewSymbol
from scpatch.elf.reader import ElfFile
from scpatch.ppc64 import insn
from scpatch.ppc64.asm import assemble, branch
from scpatch.ppc64.insn import in_branch_reach
from scpatch.ppc64.relocs import R_PPC64_REL24
from scpatch.ppc64.variant import VARIANT, with_one_entry
from scpatch.sites import record
from scpatch.sites.model import (
    STUB_PREFIX,
    THUNK_PREFIX,
    NewStub,
    Plan,
    Scan,
    Site,
    State,
    TrampolineEdit,
    added_name,
)
from scpatch.strategies import Cost, StrategyOptions
from scpatch.strategies.digest import Digest
from scpatch.strategies.tail import lead

SUMMARY = "save r2 before each call, restore it in the nop behind it"

TEXT = """\
Each `bl __SCT__x; nop` becomes a call that saves r2 in the TOC save doubleword, 24(r1), and
`ld r2,24(r1)` in place of the nop. The save is two instructions in a stub at the end of the
caller's section:

    r2save.__SCT__x.DIGEST:
            std     r2,24(r1)
            b       __SCT__x

Where r2 lies there already on every path to the call, in the frame that is live, the stub is not
needed and only the nop changes. So too where it can be stored by making the nop behind an earlier
call of the function `std r2,24(r1)` (`--hoist`).

--unmark undoes `localentry`, or what a kernel has in its source: trampolines with st_other bits
5-7 = 1 become functions with one entry point, so that no linker makes stubs for their calls, and
the calls are rewritten. All objects of one link must be treated alike, before that link.

It can be done to any object at build time and asks nothing of the trampolines, the kernel or the
module loader. It costs a store and a branch a call (nothing but a load where r2 was saved), also
where the target shares the caller's TOC. It is option 1 of the thread "Out-of-line static calls
for powerpc64 ELF V2" (linuxppc-dev, September 2022)."""

_UNDONE = "localentry"
_STUB = f"std 2,{VARIANT.toc_save}(1)\nb 0"
_THUNK = f"std 2,{VARIANT.toc_save}(1)\nbl 0\nld 2,{VARIANT.toc_save}(1)"


class _Group(NamedTuple):
    """Sites that share a stub: of one section, and with the same symbol and addend."""

    section: int
    symbol: int
    addend: int
    thunk: bool
    sites: tuple[Site, ...]

    @property
    def size(self) -> int:
        return 16 if self.thunk else 8


def cost(options: StrategyOptions) -> Mapping[State, Cost]:
    return {State.REWRITE: Cost(2, 2), State.SAVED: Cost(0, 0), State.THUNK: Cost(4, 4)}


def plan(elf: ElfFile, scan: Scan, additions: Additions, options: StrategyOptions) -> Plan:
    """Makes every site of `scan` right that can be made so."""
    sites = _refuse_out_of_reach(elf, scan.sites)
    groups = _groups(sites)
    stubs: list[NewStub] = []
    digest = Digest(elf)
    local = {one.symbol for one in scan.trampolines if one.local}
    symbols = {one.symbol for one in scan.trampolines}
    by_section: dict[int, list[_Group]] = {}
    for group in groups:
        by_section.setdefault(group.section, []).append(group)
    for section, inside in sorted(by_section.items()):
        additions.append(section, lead(elf, section, sum(group.size for group in inside)))
        for group in inside:
            is_local = group.symbol in local or group.symbol not in symbols
            # A thunk leads back into its own object, so that another's would not do for it.
            stubs.append(_add_stub(additions, digest, group, unique=is_local or group.thunk))
    for site in sites:
        if site.state in (State.REWRITE, State.SAVED):
            additions.patch(site.section, site.offset + 4, VARIANT.encode(VARIANT.restore_r2))
    for section, nop in {(site.section, nop) for site in sites for nop in site.saves}:
        additions.patch(section, nop, VARIANT.encode(VARIANT.save_r2))
    edits = _unmark(elf, scan, additions) if options.unmark else []
    return Plan("callsite", sites, tuple(stubs), tuple(edits))


def replaces(options: StrategyOptions) -> frozenset[str]:
    """The other strategies that a plan undoes."""
    return frozenset({_UNDONE} if options.unmark else ())


def _unmark(elf: ElfFile, scan: Scan, additions: Additions) -> list[TrampolineEdit]:
    """Takes the marking off the trampolines. What `localentry` made of their prologues stays: it
    sets r2 without r12, so that it is right with one entry point too."""
    record.remove(elf, additions, _UNDONE)
    edits = []
    for one in scan.trampolines:
        if one.marked:
            additions.set_other(one.symbol, with_one_entry(one.st_other))
            name = elf.section_name(one.section)
            edits.append(TrampolineEdit(one.name, one.section, name, one.value, "unmarked"))
    return edits


def _groups(sites: Sequence[Site]) -> list[_Group]:
    """The stubs to make, in the order of the sites that need them first."""
    found: dict[tuple[int, int, int, int], list[Site]] = {}
    for site in sites:
        if site.state in (State.REWRITE, State.THUNK):
            own = site.offset if site.state is State.THUNK else -1
            found.setdefault((site.section, site.symbol, site.addend, own), []).append(site)
    return [
        _Group(section, symbol, addend, own >= 0, tuple(inside))
        for (section, symbol, addend, own), inside in found.items()
    ]


def _refuse_out_of_reach(elf: ElfFile, sites: Sequence[Site]) -> tuple[Site, ...]:
    """Refuses sites that lie too far from the end of their section for a branch.

    The distance is taken to the end of all code that the section could get, so that refusing one
    site never brings another one out of reach.
    """
    room: dict[int, int] = {}
    for group in _groups(sites):
        room[group.section] = room.get(group.section, 8) + group.size

    def check(site: Site) -> Site:
        if site.state not in (State.REWRITE, State.THUNK):
            return site
        distance = elf.sections[site.section].sh_size + room[site.section] - site.offset
        if in_branch_reach(distance):
            return site
        detail = f"the end of {site.section_name} is {distance:#x} bytes away, out of REL24 reach"
        return site._replace(state=State.REFUSED, code="SCP204", detail=detail)

    return tuple(check(site) for site in sites)


def _add_stub(additions: Additions, digest: Digest, group: _Group, *, unique: bool) -> NewStub:
    first = group.sites[0]
    prefix = THUNK_PREFIX if group.thunk else STUB_PREFIX
    own = first.offset if group.thunk else -1
    key = digest.of(group.section, group.symbol, group.addend, own)
    name = added_name(prefix, first.trampoline, key)
    offset = additions.end(group.section)
    code = assemble(_THUNK if group.thunk else _STUB)
    if group.thunk:
        code += branch(offset + len(code), first.offset + 4)
    additions.append(group.section, code)
    symbol = additions.add_symbol(NewSymbol(name, group.section, offset, len(code), unique=unique))
    additions.add_relocation(
        NewRelocation(group.section, offset + 4, group.symbol, R_PPC64_REL24, group.addend)
    )
    for site in group.sites:
        if site.relocation < 0:  # the assembler has resolved the call
            word = branch(site.offset, offset, links=not group.thunk)
            additions.patch(group.section, site.offset, word)
            continue
        additions.retarget(group.section, site.relocation, symbol, R_PPC64_REL24)
        if group.thunk:
            additions.patch(group.section, site.offset, VARIANT.encode(insn.B))
    return NewStub(
        name,
        first.trampoline,
        group.section,
        first.section_name,
        offset,
        code,
        len(group.sites),
    )
