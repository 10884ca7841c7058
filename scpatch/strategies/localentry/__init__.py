"""Option 3 of the thread: the trampolines have no local entry point, so the linker saves r2.

A defined trampoline gets st_other bits 5-7 = 1. Linkers take that for "does not preserve r2", send
each call through a stub of their own that saves r2, and make the restore of the nop. Control then
enters at what was the global entry point, with the caller's r2 and anything in r12, so that a
prologue which computes r2 from r12 is replaced in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scpatch.elf.additions import Additions, NewRelocation, NewSymbol
from scpatch.elf.functions import section_of
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.asm import assemble, branch
from scpatch.ppc64.insn import in_branch_reach
from scpatch.ppc64.variant import VARIANT, without_local_entry
from scpatch.sites.classify import refuse
from scpatch.sites.model import (
    TOC_PREFIX,
    NewStub,
    Plan,
    Scan,
    Site,
    State,
    Trampoline,
    TrampolineEdit,
    added_name,
)
from scpatch.strategies import Cost, StrategyOptions
from scpatch.strategies.digest import Digest
from scpatch.strategies.localentry.prologue import SIZE, Prologue, place, read_prologues, toc_symbol
from scpatch.strategies.tail import lead

SUMMARY = "mark the trampolines, so that the linker saves and restores r2"
FOR_MODULES = "callsite"
"""It is nothing for a module, see below."""

TEXT = """\
Each trampoline that the object defines is marked as a function that does not preserve r2 (st_other
bits 5-7 = 1, the assembler's `.localentry NAME,1`). GNU ld and lld then send every call of it
through a stub `std r2,24(r1); b __SCT__x`, also those of other objects, and make `ld r2,24(r1)` of
the nop behind it. The call sites stay as they are, but for the nop, which becomes the one that lld
knows, and relocations by section, in which no linker sees the mark.

Control comes to a marked trampoline with the caller's r2 and anything in r12. A prologue that
computes r2 from r12 is replaced in place: with --asm-offsets or --paca-toc-offset, for a kernel
image, by a load from the PACA, `ld r2,PACATOC(r13)`; without either by a branch to code at the end
of the section, which computes r2 from its own address. Anything that would run with another unit's
PACA must not be given an offset. A .ko is refused: no linker follows, and the module loader of
Linux 6.1 ignores the mark. Its trampolines are for `callsite`.

The linkers leave some calls without stub or restore, silently; they are refused here, and
`scpatch verify IMAGE` finds them in what was linked. It is option 3 of the thread "Out-of-line
static calls for powerpc64 ELF V2" (linuxppc-dev, September 2022), and what its version 4 did."""

_TOC_CODE = "mflr 0\nbcl 20,31,4\nmflr 12\nmtlr 0\naddis 2,12,0\naddi 2,2,0"
_TOC_SIZE = 28
"""With the branch back."""
_BASE, _HIGH, _LOW = 8, 16, 20
"""Offsets in that code: the address that LR is set to, and the two halves of the distance."""


def cost(options: StrategyOptions) -> Mapping[State, Cost]:
    # Two for the linker's stub; the rest computes r2 in the trampoline, from the PACA or the PC.
    more = 4 if options.offsets.paca_toc is not None else 10
    return {State.LINKER: Cost(more, more)}


def plan(elf: ElfFile, scan: Scan, additions: Additions, options: StrategyOptions) -> Plan:
    """Marks the trampolines that `scan` found, and readies their calls for the linker."""
    defined = [one for one in scan.trampolines if one.defined and not one.indirect]
    if scan.module and defined:
        raise ScpatchError("SCP225", f"the module defines {defined[0].name}", file=elf.name)
    if scan.stubs:
        raise ScpatchError("SCP114", f"has {scan.stubs[0].name} of callsite", file=elf.name)
    ours = _Trampolines(elf, scan.trampolines)
    sites = _without_half(ours, [_judge(ours, site) for site in scan.sites])
    refused = {one.symbol for site in sites if _is_refused(site) for one in ours.of(site)}
    wanted = [one for one in defined if not one.marked and one.symbol not in refused]
    stubs, edits = _mark(elf, additions, wanted, options.offsets.paca_toc)
    for site in sites:
        if site.state is State.LINKER:
            _ready(additions, ours, site)
    return Plan("localentry", sites, tuple(stubs), tuple(edits))


class _Trampolines:
    """Finds the trampolines of a site by what its relocation names."""

    def __init__(self, elf: ElfFile, trampolines: Iterable[Trampoline]) -> None:
        assert elf.symbols is not None or not trampolines
        self._symbols = elf.symbols
        self._by_symbol = {one.symbol: one for one in trampolines}
        self._by_name: dict[str, list[Trampoline]] = {}
        self._by_place: dict[tuple[int, int], Trampoline] = {}
        for one in self._by_symbol.values():
            self._by_name.setdefault(one.name, []).append(one)
            if one.defined:
                self._by_place.setdefault((one.section, one.value), one)
                self._by_place.setdefault((one.section, one.local_entry), one)

    def entered(self, site: Site) -> Trampoline | None:
        """The trampoline at whose entry point the call lands; None where it lands elsewhere."""
        if site.symbol in self._by_symbol:
            return self._by_symbol[site.symbol] if site.addend == 0 else None
        symbols = self._symbols
        assert symbols is not None, "an object with call sites has symbols"
        section = section_of(symbols, site.symbol)
        return self._by_place.get((section, symbols.st_value[site.symbol] + site.addend))

    def of(self, site: Site) -> Sequence[Trampoline]:
        """All trampolines that the site may be a call of."""
        return self._by_name.get(site.trampoline, ())


def _is_refused(site: Site) -> bool:
    return site.state is State.REFUSED


def _judge(ours: _Trampolines, site: Site) -> Site:
    """What becomes of one site when its trampoline is marked."""
    if site.state is State.THUNK:
        return site._replace(state=State.REFUSED)
    if site.relocation < 0 and site.state in (State.REWRITE, State.SAVED):
        return refuse(site, "SCP212", "the call has no relocation, so that no linker sees it")
    if site.state in (State.REWRITE, State.SAVED) or site.code in ("SCP226", "SCP245"):
        one = ours.entered(site)
        if one is None:
            return refuse(site, "SCP205", "the call does not go to an entry point")
        if one.reserved:
            what = f"{one.name} lies in no section (st_shndx {one.reserved:#x})"
            return refuse(site, "SCP249", what)
        detail = "the linker saves and restores r2"
        if not one.defined:
            detail += ", once the trampoline is marked where it is defined"
        return site._replace(state=State.LINKER, code="", detail=detail)
    return site


def _without_half(ours: _Trampolines, sites: Sequence[Site]) -> tuple[Site, ...]:
    """Refuses the sites of trampolines that stay unmarked because of another site: marking would
    turn a call that loses r2 into one that the linker refuses, or writes to a foreign frame for."""
    bad = {
        one.symbol: site
        for site in sites
        if _is_refused(site)
        for one in ours.of(site)
        if not one.marked
    }

    def check(site: Site) -> Site:
        one = ours.entered(site) if site.state is State.LINKER else None
        if one is None or one.symbol not in bad:
            return site
        return refuse(site, "SCP229", f"the call at {bad[one.symbol].place} is refused")

    return tuple(check(site) for site in sites)


def _ready(additions: Additions, ours: _Trampolines, site: Site) -> None:
    """Changes a site so that every linker makes stub and restore for it."""
    one = ours.entered(site)
    assert one is not None, "the call lands at an entry point"
    if site.symbol != one.symbol:
        # Linkers look at the st_other of the symbol that the relocation names.
        additions.retarget(site.section, site.relocation, one.symbol, relocs.R_PPC64_REL24)
    if site.after in insn.NOPS and site.after != insn.NOP:
        additions.patch(site.section, site.offset + 4, VARIANT.encode(insn.NOP))


def _mark(
    elf: ElfFile, additions: Additions, wanted: Sequence[Trampoline], paca_toc: int | None
) -> tuple[list[NewStub], list[TrampolineEdit]]:
    """Marks trampolines, and replaces their prologues, once where two share a place."""
    prologues = read_prologues(elf, wanted)
    distinct = {(one.section, one.value): one for one in wanted if prologues[one.symbol].needs_r12}
    what = "marked"
    stubs: list[NewStub] = []
    if paca_toc is not None:
        what += ", r2 from the PACA"
        _load_from_paca(elf, additions, distinct.values(), prologues, paca_toc)
    elif distinct:
        what += ", r2 from the PC"
        stubs = _compute_from_pc(elf, additions, list(distinct.values()), prologues)
    edits = []
    for one in wanted:
        additions.set_other(one.symbol, without_local_entry(one.st_other))
        name = elf.section_name(one.section)
        text = what if (one.section, one.value) in distinct else "marked"
        edits.append(TrampolineEdit(one.name, one.section, name, one.value, text))
    return stubs, edits


def _load_from_paca(
    elf: ElfFile,
    additions: Additions,
    trampolines: Iterable[Trampoline],
    prologues: Mapping[int, Prologue],
    offset: int,
) -> None:
    if offset % 4 or not 0 <= offset < 0x8000:
        raise ScpatchError("SCP228", f"`ld r2,{offset}(r13)` is no instruction", file=elf.name)
    load = assemble(f"ld 2,{offset}(13)") + VARIANT.encode(insn.NOP)
    for one in trampolines:
        _replace(additions, one, prologues[one.symbol], load)


def _replace(additions: Additions, one: Trampoline, prologue: Prologue, code: bytes) -> None:
    """Puts two other words in place of a prologue; its relocations stay, with nothing to do."""
    additions.patch(one.section, one.value, code)
    for index in prologue.relocations:
        additions.retarget(one.section, index, 0, relocs.R_PPC64_NONE)


def _compute_from_pc(
    elf: ElfFile,
    additions: Additions,
    trampolines: Sequence[Trampoline],
    prologues: Mapping[int, Prologue],
) -> list[NewStub]:
    """Sends trampolines by way of code at the end of their section, which knows its own address."""
    toc = toc_symbol(elf)
    by_section: dict[int, list[Trampoline]] = {}
    for one in trampolines:
        if toc is None or one.section not in elf.relocated:
            raise ScpatchError(
                "SCP228", "the object does not name .TOC.", file=elf.name, where=place(elf, one)
            )
        by_section.setdefault(one.section, []).append(one)
    digest = Digest(elf)
    stubs: list[NewStub] = []
    for section, inside in sorted(by_section.items()):
        additions.append(section, lead(elf, section, _TOC_SIZE * len(inside)))
        for one in inside:
            assert toc is not None
            stubs.append(_append_code(elf, additions, digest, one, toc))
            start = stubs[-1].offset
            detour = branch(one.value, start) + VARIANT.encode(insn.NOP)
            _replace(additions, one, prologues[one.symbol], detour)
    return stubs


def _append_code(
    elf: ElfFile, additions: Additions, digest: Digest, one: Trampoline, toc: int
) -> NewStub:
    """Code that sets r2 and branches to behind the prologue. LR is left as it was, r0 and r12 are
    not: no call passes anything in them."""
    section, start = one.section, additions.end(one.section)
    if not in_branch_reach(start + _TOC_SIZE - one.value):
        raise ScpatchError(
            "SCP228",
            f"the end of {elf.section_name(section)} is out of a branch's reach",
            file=elf.name,
            where=place(elf, one),
        )
    code = assemble(_TOC_CODE)
    code += branch(start + len(code), one.value + SIZE)
    additions.append(section, code)
    name = added_name(TOC_PREFIX, one.name, digest.of(section, one.symbol))
    additions.add_symbol(NewSymbol(name, section, start, len(code), unique=True))
    for at, kind in ((_HIGH, relocs.R_PPC64_REL16_HA), (_LOW, relocs.R_PPC64_REL16_LO)):
        additions.add_relocation(NewRelocation(section, start + at, toc, kind, at - _BASE))
    return NewStub(name, one.name, section, elf.section_name(section), start, code, 0)
