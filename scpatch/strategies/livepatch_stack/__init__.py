"""Option 2 of the thread: the trampolines save LR and r2 on the per-thread livepatch stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from scpatch.elf.additions import Additions, NewSymbol
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import NAMES, Offsets
from scpatch.ppc64 import insn
from scpatch.ppc64.asm import branch
from scpatch.ppc64.insn import in_branch_reach
from scpatch.sites.actions import Action, Common
from scpatch.sites.model import NOP_FAULTS, Kind, Place, Scan, Site, Trampoline
from scpatch.sites.pc_relative import pc_relative_places
from scpatch.strategies.added_code import Digest, leads
from scpatch.strategies.base import Cost, Strategy
from scpatch.strategies.livepatch_stack.stack_code import (
    NAME,
    PREFIX,
    SIZE,
    SlowPath,
    code,
    read_slow_path,
)
from scpatch.strategies.plans import NewStub, Plan, TrampolineEdit

TEXT = """\
The call sites stay as they are. A trampoline that cannot branch straight to its target ends in
`mtctr r12; bctr`. scpatch replaces that `bctr` by a branch to code at the end of the trampoline's
section:

    r2lps.DIGEST:
            save r2, LR and the end of stack marker above thread_info->livepatch_sp
            bctrl
            check the marker, restore LR and r2
            blr

The livepatch stack grows up from the base of the kernel stack, so r1 and the arguments on the stack
stay where they are. If a target has the trampoline's TOC, the trampoline branches to it as before,
at no cost. A call of any form is right: it needs no nop, and may be a sibling call. Trampolines in
pc-relative code (Power10) stay as they are.

It needs a kernel with CONFIG_LIVEPATCH and the offsets of its asm-offsets.h, and works for the
image and for modules. In a backtrace from a target with another TOC, the code appears in place of
the caller. It is option 2 of the thread "Out-of-line static calls for powerpc64 ELF V2"
(linuxppc-dev, September 2022)."""


class Kept(Action):
    TRAMPOLINE = (
        *("trampoline", "kept right by the trampoline"),
        "stays as it is: its trampoline keeps r2, or is to",
    )

    @property
    def changes(self) -> bool:
        return False


KEEPS: Final = "the trampoline keeps r2 on the livepatch stack"

_NEEDS_NO_NOP: Final = NOP_FAULTS | {Kind.OPEN, Kind.SIBLING, Kind.RESOLVED}
"""What is right once the trampoline keeps r2: the call needs no nop, and need not come back."""


class LivepatchStack(Strategy):
    name = NAME
    summary = "let the trampolines save LR and r2 on the livepatch stack"
    text = TEXT
    actions = Kept
    takes = frozenset({"offsets"})

    def recognise(self, elf: ElfFile, scan: Scan, sites: Sequence[Site]) -> tuple[Site, ...]:
        paths = _slow_paths(elf, scan)
        return _decide(scan, sites, {at: paths[at] for at in paths if paths[at].keeps_r2})

    def decide(self, elf: ElfFile, scan: Scan) -> tuple[Site, ...]:
        return self._decide_all(elf, scan, _slow_paths(elf, scan))

    def plan(self, elf: ElfFile, scan: Scan, additions: Additions, offsets: Offsets) -> Plan:
        """Makes every trampoline that the object defines keep r2.

        Raises ScpatchError: SCP115 or SCP233 for offsets that are not known or of no use, SCP232 if
        the object has the code for another kernel, and the code of a trampoline that cannot be
        changed and that no call in the object leads to.
        """
        paths = _slow_paths(elf, scan)
        sites = self._decide_all(elf, scan, paths)
        _check_uncalled(elf, sites, paths)
        _check_existing(elf, offsets, list(paths.values()))
        todo = [
            trampoline
            for place, trampoline in _changed(elf, scan).items()
            if paths[place].exits and not paths[place].code
        ]
        if not todo:
            return Plan(NAME, sites)
        offsets = _usable(elf, offsets)
        stubs: list[NewStub] = []
        for section in sorted({trampoline.section for trampoline in todo}):
            here = [trampoline for trampoline in todo if trampoline.section == section]
            exits = [at for trampoline in here for at in paths[trampoline.entry_place].exits]
            stub = _add_code(elf, additions, code(offsets), section, exits)
            names = {trampoline.name for trampoline in here}
            through = [site.state is Kept.TRAMPOLINE and site.trampoline in names for site in sites]
            stubs.append(stub._replace(sites=sum(through)))
        what = "saves LR and r2 on the livepatch stack on its path to another TOC"
        edits = tuple(TrampolineEdit.of(elf, trampoline, what) for trampoline in todo)
        return Plan(NAME, sites, tuple(stubs), edits)

    @staticmethod
    def _decide_all(elf: ElfFile, scan: Scan, paths: Mapping[Place, SlowPath]) -> tuple[Site, ...]:
        settled = [site.settled for site in scan.sites]
        return _decide(scan, settled, paths, pc_relative_places(elf, scan))

    def cost(self, offsets: Offsets) -> Mapping[Action, Cost]:
        return {Kept.TRAMPOLINE: Cost(0, 24)}


STRATEGY = LivepatchStack()


def _changed(elf: ElfFile, scan: Scan) -> dict[Place, Trampoline]:
    """The trampolines to change; of several at one place the last. The linker sees to the callers
    of those that do not promise to keep r2. Those in pc-relative code stay as they are."""
    alone = pc_relative_places(elf, scan)
    return {
        trampoline.entry_place: trampoline
        for trampoline in scan.trampolines
        if trampoline.defined
        and not trampoline.clobbers_r2
        and not trampoline.indirect
        and trampoline.entry_place not in alone
    }


def _slow_paths(elf: ElfFile, scan: Scan) -> dict[Place, SlowPath]:
    """How each of them comes to a target with another TOC."""
    changed, places = _changed(elf, scan), {}
    for section in {section for section, _ in changed}:
        table = elf.relocations(section)
        offsets = table.r_offset if table is not None else ()
        places[section] = frozenset(offset & ~3 for offset in offsets)
    paths = {}
    for (section, start), trampoline in changed.items():
        path = read_slow_path(elf, trampoline, places[section])
        paths[section, start] = _in_reach(elf, trampoline, path)
    return paths


def _check_uncalled(elf: ElfFile, sites: Sequence[Site], paths: Mapping[Place, SlowPath]) -> None:
    """Raises ScpatchError for a trampoline that cannot be changed and that no site was refused for:
    other objects may call it."""
    refused = {(site.callee.section, site.callee.value, site.code) for site in sites}
    for place, path in sorted(paths.items()):
        if path.code and (*place, path.code) not in refused:
            raise ScpatchError(path.code, path.fault, file=elf.name)


def _in_reach(elf: ElfFile, trampoline: Trampoline, path: SlowPath) -> SlowPath:
    """Refuses a trampoline that is too far from the end of its section for a branch."""
    end = elf.sections[trampoline.section].sh_size + 8 + SIZE
    if path.code or not path.exits or in_branch_reach(end - path.exits[0]):
        return path
    fault = f"the end of the section is {end - path.exits[0]:#x} bytes from {trampoline.name}"
    return path._replace(code="SCP204", fault=fault + ", out of REL24 reach")


def _check_existing(elf: ElfFile, offsets: Offsets, paths: Sequence[SlowPath]) -> None:
    """Raises ScpatchError SCP232 if an earlier run has used other offsets."""
    wanted = offsets.paca_thread_info, offsets.livepatch_sp
    for saving in [saving for path in paths for saving in path.saving]:
        present = saving.offsets.paca_thread_info, saving.offsets.livepatch_sp
        if None not in wanted and present != wanted:
            words = f"{NAMES['paca_thread_info']} %s and {NAMES['livepatch_sp']} %s"
            what = f"made for {words % present}, and the kernel has {words % wanted}"
            raise ScpatchError("SCP232", what, file=elf.name)


def _usable(elf: ElfFile, offsets: Offsets) -> Offsets:
    """The two offsets that the code is made with. Raises ScpatchError, see `plan`."""
    for field, limit in (("paca_thread_info", 0x8000), ("livepatch_sp", 1024)):
        value = getattr(offsets, field)
        if value is None:
            why = (
                ""
                if field == "paca_thread_info"
                else ": a kernel without CONFIG_LIVEPATCH has none"
            )
            raise ScpatchError("SCP115", f"{NAMES[field]} is not known{why}", file=elf.name)
        if value % 8 or not 0 <= value < limit:
            what = f"{NAMES[field]} is {value}, not a multiple of 8 from 0 to {limit - 8}"
            raise ScpatchError("SCP233", what, file=elf.name)
    return offsets._replace(paca_toc=None)


def _add_code(
    elf: ElfFile, additions: Additions, words: list[int], section: int, exits: Sequence[int]
) -> NewStub:
    """Adds the code to a section and sends the `exits` of trampolines there."""
    additions.append(section, leads(elf, {section: SIZE})[section])
    start, name = additions.end(section), PREFIX + Digest(elf).of(section)
    code = elf.encoding.pack_words(*words)
    additions.append(section, code)
    additions.add_symbol(NewSymbol(name, section, start, SIZE, unique=False))
    for exit_ in exits:
        additions.patch_words(section, exit_, branch(exit_, start))
    return NewStub(name, "", section, elf.section_name(section), start, code, 0)


def _decide(
    scan: Scan,
    sites: Sequence[Site],
    paths: Mapping[Place, SlowPath],
    alone: frozenset[Place] = frozenset(),
) -> tuple[Site, ...]:
    """The `sites` of `scan`, decided if their trampolines are in `paths` or not in the object, or
    are left `alone`."""

    def decided(fact: Site, site: Site) -> Site:
        callee = fact.callee
        if not isinstance(callee, Trampoline) or not _is_settled(callee, fact):
            return site
        if not callee.defined:
            return _left_to_another(callee, fact, module=scan.module)
        if callee.entry_place in alone:
            return _left_alone(fact)
        if (path := paths.get(callee.entry_place)) is None:
            return site
        if path.code:
            return fact.refused(path.code, path.fault)
        return fact._replace(state=Kept.TRAMPOLINE, code="", detail=KEEPS)

    return tuple(map(decided, scan.sites, sites))


def _is_settled(trampoline: Trampoline, site: Site) -> bool:
    """Whether a call is right once its trampoline keeps r2."""
    # A call that the assembler has resolved itself may lead to either entry point.
    one_entry = trampoline.value == trampoline.local_entry
    plain = site.kind is not Kind.RESOLVED or (one_entry and insn.is_branch(site.word))
    return site.kind in _NEEDS_NO_NOP and plain


def _left_alone(site: Site) -> Site:
    """A call of a trampoline that stays as it is."""
    if site.kind not in (Kind.OPEN, *NOP_FAULTS):
        return site.settled
    what = "is pc-relative code: none of its targets need preserve r2"
    return site.refused("SCP230", f"{site.trampoline} {what}")


def _left_to_another(trampoline: Trampoline, site: Site, *, module: bool) -> Site:
    """A call of a trampoline that the object does not define."""
    if trampoline.reserved and not (module and trampoline.loaded):
        detail = f"{trampoline.name} is in no section (st_shndx {trampoline.reserved:#x})"
        return site.refused("SCP249", detail)
    if not module:
        detail = "right once the object that defines the trampoline is rewritten as well"
        return site._replace(state=Kept.TRAMPOLINE, code="", detail=detail)
    if site.kind is not Kind.OPEN:
        return site.settled
    return site._replace(state=Common.LOADER, detail="the trampoline is undefined here")
