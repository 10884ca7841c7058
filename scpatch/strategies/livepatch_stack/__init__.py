"""Strategy `livepatch-stack`: the trampolines save LR and r2 on the per-thread livepatch stack.

The call sites stay as they are. In each trampoline the `bctr` that ends its way to a target with
another TOC becomes a branch to code at the end of its section; see `stack_code`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scpatch.elf.additions import Additions, NewSymbol
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import NAMES, Offsets
from scpatch.ppc64.asm import branch
from scpatch.ppc64.insn import in_branch_reach
from scpatch.sites.classify import refuse
from scpatch.sites.model import (
    LIVEPATCH_PREFIX,
    NewStub,
    Plan,
    Scan,
    Site,
    State,
    Trampoline,
    TrampolineEdit,
)
from scpatch.strategies import Cost, StrategyOptions
from scpatch.strategies.digest import Digest
from scpatch.strategies.livepatch_stack.stack_code import (
    KEEPS,
    NAME,
    SIZE,
    Finder,
    Reader,
    Slow,
    code,
    is_ours,
    is_settled,
    left_to_another,
)
from scpatch.strategies.tail import lead

SUMMARY = "let the trampolines save LR and r2 on the livepatch stack"

TEXT = """\
The call sites stay as they are. A trampoline that cannot branch straight to its target ends in
`mtctr r12; bctr`; that `bctr` becomes a branch to code at the end of the trampoline's section:

    r2lps.DIGEST:
            save r2, LR and the end of stack marker above thread_info->livepatch_sp
            bctrl
            check the marker, restore LR and r2
            blr

The livepatch stack grows up from the base of the kernel stack, so that r1 and the arguments on the
stack stay where they are. Where a target shares the trampoline's TOC, the trampoline branches to it
as before, at no cost. A call of any form is right: it needs no nop, and may be a sibling call.

It needs a kernel with CONFIG_LIVEPATCH, whose offsets are read from asm-offsets.h, and works for
the image and for modules. In a backtrace from a target with another TOC the code takes the place
of the caller. It is option 2 of the thread "Out-of-line static calls for powerpc64 ELF V2"
(linuxppc-dev, September 2022)."""


_Place = tuple[int, int]
"""Section and section offset of a trampoline's global entry; several names may share it."""


def cost(options: StrategyOptions) -> Mapping[State, Cost]:
    return {State.TRAMPOLINE: Cost(0, 24)}


def plan(elf: ElfFile, scan: Scan, additions: Additions, options: StrategyOptions) -> Plan:
    """Makes every trampoline that the object defines keep r2.

    Raises ScpatchError SCP115 or SCP233 where the offsets are not known or of no use, SCP232
    where the object has the code for another kernel, and the code of a trampoline that cannot be
    changed where no call in the object leads to it.
    """
    read = Reader(elf)
    ways = {_place(one): (one, read(one)) for one in scan.trampolines if is_ours(one)}
    ways = {place: (one, _in_reach(elf, one, slow)) for place, (one, slow) in ways.items()}
    sites = _sites(elf, scan, {place: slow for place, (_, slow) in ways.items()})
    _check_existing(elf, options.offsets, [slow for _, slow in ways.values()])
    todo = [(one, slow) for one, slow in ways.values() if slow.exits and not slow.code]
    if not todo:
        return Plan(NAME, sites)
    offsets = _usable(elf, options.offsets)
    stubs: list[NewStub] = []
    for section in sorted({one.section for one, _ in todo}):
        here = [(one, slow) for one, slow in todo if one.section == section]
        stubs.append(_change(elf, additions, offsets, here, sites))
    edits = tuple(_edit(elf, one) for one, _ in todo)
    return Plan(NAME, sites, tuple(stubs), edits)


def _place(trampoline: Trampoline) -> _Place:
    return trampoline.section, trampoline.value


def _in_reach(elf: ElfFile, trampoline: Trampoline, slow: Slow) -> Slow:
    """Refuses a trampoline that lies too far from the end of its section for a branch."""
    end = elf.sections[trampoline.section].sh_size + 8 + SIZE
    if slow.code or not slow.exits or in_branch_reach(end - slow.exits[0]):
        return slow
    fault = f"the end of the section is {end - slow.exits[0]:#x} bytes from {trampoline.name}"
    return slow._replace(code="SCP204", fault=fault + ", out of REL24 reach")


def _sites(elf: ElfFile, scan: Scan, ways: Mapping[_Place, Slow]) -> tuple[Site, ...]:
    """What becomes of the sites. Raises ScpatchError for a trampoline that cannot be changed and
    has none: there is nothing else to refuse, and other objects may call it."""
    find = Finder(elf, scan.trampolines)
    unseen = {place for place, slow in ways.items() if slow.code}
    sites = []
    for site in scan.sites:
        one = find(site)
        if one is None or not is_settled(one, site):
            sites.append(site)
        elif not one.defined:
            sites.append(left_to_another(one, site, module=scan.module))
        elif (slow := ways.get(_place(one))) is None:
            is_thunk = site.state is State.THUNK
            sites.append(site._replace(state=State.REFUSED) if is_thunk else site)
        elif slow.code:
            unseen.discard(_place(one))
            sites.append(refuse(site, slow.code, slow.fault))
        else:
            sites.append(site._replace(state=State.TRAMPOLINE, code="", detail=KEEPS))
    for place in sorted(unseen):
        raise ScpatchError(ways[place].code, ways[place].fault, file=elf.name)
    return tuple(sites)


def _check_existing(elf: ElfFile, offsets: Offsets, ways: Sequence[Slow]) -> None:
    """Raises ScpatchError SCP232 where an earlier run has used other offsets."""
    wanted = offsets.paca_thread_info, offsets.livepatch_sp
    for slow in ways:
        for there in slow.saving:
            found = there.offsets.paca_thread_info, there.offsets.livepatch_sp
            if None not in wanted and found != wanted:
                what = f"made for {_named(found)}, and the kernel has {_named(wanted)}"
                raise ScpatchError("SCP232", what, file=elf.name)


def _named(values: tuple[int | None, int | None]) -> str:
    thread_info, livepatch_sp = values
    names = NAMES["paca_thread_info"], NAMES["livepatch_sp"]
    return f"{names[0]} {thread_info} and {names[1]} {livepatch_sp}"


def _usable(elf: ElfFile, offsets: Offsets) -> Offsets:
    """The two offsets that the code is made with. Raises ScpatchError, see `plan`."""
    for field, limit in (("paca_thread_info", 0x8000), ("livepatch_sp", 1024)):
        value = getattr(offsets, field)
        if value is None:
            raise ScpatchError("SCP115", f"{NAMES[field]} is not known", file=elf.name)
        if value % 8 or not 0 <= value < limit:
            what = f"{NAMES[field]} is {value}, which is no offset of a doubleword there"
            raise ScpatchError("SCP233", what, file=elf.name)
    return offsets._replace(paca_toc=None)


def _change(
    elf: ElfFile,
    additions: Additions,
    offsets: Offsets,
    ways: Sequence[tuple[Trampoline, Slow]],
    sites: Sequence[Site],
) -> NewStub:
    """Adds the code to the section of some trampolines and sends them there."""
    section = ways[0][0].section
    additions.append(section, lead(elf, section, SIZE))
    start, name = additions.end(section), LIVEPATCH_PREFIX + Digest(elf).of(section)
    additions.append(section, code(offsets))
    additions.add_symbol(NewSymbol(name, section, start, SIZE, unique=False))
    for _, slow in ways:
        for at in slow.exits:
            additions.patch(section, at, branch(at, start))
    names = {one.name for one, _ in ways}
    calls = sum(site.state is State.TRAMPOLINE and site.trampoline in names for site in sites)
    return NewStub(name, "", section, elf.section_name(section), start, code(offsets), calls)


def _edit(elf: ElfFile, one: Trampoline) -> TrampolineEdit:
    what = "saves LR and r2 on the livepatch stack on its way to another TOC"
    return TrampolineEdit(one.name, one.section, elf.section_name(one.section), one.value, what)
