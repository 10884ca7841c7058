"""Adds the stubs and thunks, and changes the call sites."""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from scpatch.elf.additions import Additions, NewRelocation, NewSymbol
from scpatch.elf.reader import ElfFile
from scpatch.ppc64 import insn
from scpatch.ppc64.asm import assemble, branch
from scpatch.ppc64.insn import in_branch_reach
from scpatch.ppc64.relocs import R_PPC64_REL24
from scpatch.ppc64.variant import RESTORE_R2, SAVE_R2, TOC_SAVE, with_one_entry
from scpatch.sites.model import Scan, Site
from scpatch.strategies import record, undone
from scpatch.strategies.added_code import Digest, added_name, leads
from scpatch.strategies.callsite import NAME, Rewrite
from scpatch.strategies.callsite.traces import STUB_PREFIX, THUNK_PREFIX
from scpatch.strategies.plans import NewStub, Plan, TrampolineEdit

_STUB = f"std 2,{TOC_SAVE}(1)\nb 0"
_THUNK = f"std 2,{TOC_SAVE}(1)\nbl 0\nld 2,{TOC_SAVE}(1)"


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


def plan(elf: ElfFile, scan: Scan, sites: Sequence[Site], additions: Additions) -> Plan:
    """The plan for the decided `sites` of `scan`."""
    sites = _refuse_out_of_reach(elf, sites)
    stubs: list[NewStub] = []
    digest = Digest(elf)
    local = {trampoline.symbol for trampoline in scan.trampolines if trampoline.local}
    symbols = {trampoline.symbol for trampoline in scan.trampolines}
    by_section: dict[int, list[_Group]] = {}
    for group in sorted(_groups(sites), key=attrgetter("section")):
        by_section.setdefault(group.section, []).append(group)
    sizes = {section: sum(it.size for it in inside) for section, inside in by_section.items()}
    for section, code in leads(elf, sizes).items():
        additions.append(section, code)
        for group in by_section[section]:
            is_local = group.symbol in local or group.symbol not in symbols
            # A thunk leads back into its own object, so that another's would not do for it.
            stubs.append(_add_stub(additions, digest, group, unique=is_local or group.thunk))
    for site in sites:
        if site.state in (Rewrite.REWRITE, Rewrite.SAVED):
            additions.patch_words(site.section, site.offset + 4, RESTORE_R2)
    for section, nop in {(site.section, nop) for site in sites for nop in site.saves}:
        additions.patch_words(section, nop, SAVE_R2)
    edits = _unmark(elf, scan, additions) if scan.choices.unmark else ()
    return Plan(NAME, sites, tuple(stubs), tuple(edits))


def _unmark(elf: ElfFile, scan: Scan, additions: Additions) -> list[TrampolineEdit]:
    """Takes the marks off the trampolines. What the rewrite that made them has put in place of the
    prologues stays: it sets r2 without r12, which is right with one entry point too."""
    for strategy in undone(scan.strategies, scan.choices):
        record.remove(elf, additions, strategy)
    edits = []
    for trampoline in scan.trampolines:
        if trampoline.marked:
            additions.set_other(trampoline.symbol, with_one_entry(trampoline.st_other))
            edits.append(TrampolineEdit.of(elf, trampoline, "unmarked"))
    return edits


def _groups(sites: Sequence[Site]) -> list[_Group]:
    """The stubs to make, in the order of the sites that need them first."""
    groups: dict[tuple[int, int, int, int], list[Site]] = {}
    for site in sites:
        if site.state in (Rewrite.REWRITE, Rewrite.THUNK):
            thunk = site.offset if site.state is Rewrite.THUNK else -1
            groups.setdefault((site.section, site.symbol, site.addend, thunk), []).append(site)
    return [
        _Group(section, symbol, addend, thunk >= 0, tuple(inside))
        for (section, symbol, addend, thunk), inside in groups.items()
    ]


def _refuse_out_of_reach(elf: ElfFile, sites: Sequence[Site]) -> tuple[Site, ...]:
    """Refuses sites that are too far from the end of their section for a branch.

    The distance is taken to the end of all code that the section could get, so that refusing one
    site never brings another one out of reach.
    """
    room: dict[int, int] = {}
    for group in _groups(sites):
        room[group.section] = room.get(group.section, 8) + group.size

    def check(site: Site) -> Site:
        if site.state not in (Rewrite.REWRITE, Rewrite.THUNK):
            return site
        distance = elf.sections[site.section].sh_size + room[site.section] - site.offset
        if in_branch_reach(distance):
            return site
        detail = f"the end of {site.section_name} is {distance:#x} bytes away, out of REL24 reach"
        return site.refused("SCP204", detail)

    return tuple(check(site) for site in sites)


def _add_stub(additions: Additions, digest: Digest, group: _Group, *, unique: bool) -> NewStub:
    first = group.sites[0]
    prefix = THUNK_PREFIX if group.thunk else STUB_PREFIX
    position = first.offset if group.thunk else -1
    key = digest.of(group.section, group.symbol, group.addend, position)
    name = added_name(prefix, first.trampoline, key)
    offset = additions.end(group.section)
    words = assemble(_THUNK if group.thunk else _STUB)
    if group.thunk:
        words.append(branch(offset + 4 * len(words), first.offset + 4))
    code = additions.encoding.pack_words(*words)
    additions.append(group.section, code)
    symbol = additions.add_symbol(NewSymbol(name, group.section, offset, len(code), unique=unique))
    additions.add_relocation(
        NewRelocation(group.section, offset + 4, group.symbol, R_PPC64_REL24, group.addend)
    )
    for site in group.sites:
        if site.relocation < 0:  # the assembler has resolved the call
            word = branch(site.offset, offset, links=not group.thunk)
            additions.patch_words(group.section, site.offset, word)
            continue
        additions.retarget(group.section, site.relocation, symbol, R_PPC64_REL24)
        if group.thunk:
            additions.patch_words(group.section, site.offset, insn.B)
    where = group.section, first.section_name, offset
    return NewStub(name, first.trampoline, *where, code, len(group.sites), group.thunk)
