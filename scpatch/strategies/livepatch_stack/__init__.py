"""Strategy `livepatch-stack`: the trampolines save LR and r2 on the per-thread livepatch stack.

The call sites stay as they are. In each trampoline the `bctr` that ends its path to a target with
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
from scpatch.sites.actions import Action
from scpatch.sites.model import Place, Scan, Site, Trampoline
from scpatch.strategies.base import Cost, Strategy
from scpatch.strategies.digest import Digest
from scpatch.strategies.livepatch_stack.decide import Kept, decide, is_changed, place_of
from scpatch.strategies.livepatch_stack.stack_code import NAME, PREFIX, SIZE, Reader, SlowPath, code
from scpatch.strategies.livepatch_stack.text import TEXT
from scpatch.strategies.plans import NewStub, Plan, TrampolineEdit
from scpatch.strategies.tail import lead


class LivepatchStack(Strategy):
    name = NAME
    summary = "let the trampolines save LR and r2 on the livepatch stack"
    text = TEXT
    actions = Kept
    takes = frozenset({"offsets"})

    def recognise(self, elf: ElfFile, scan: Scan, sites: Sequence[Site]) -> tuple[Site, ...]:
        paths = _slow_paths(elf, scan)
        return decide(scan, sites, {at: paths[at] for at in paths if paths[at].keeps_r2})

    def decide(self, elf: ElfFile, scan: Scan) -> tuple[Site, ...]:
        return decide(scan, [site.settled for site in scan.sites], _slow_paths(elf, scan))

    def plan(self, elf: ElfFile, scan: Scan, additions: Additions, offsets: Offsets) -> Plan:
        """Makes every trampoline that the object defines keep r2.

        Raises ScpatchError: SCP115 or SCP233 for offsets that are not known or of no use, SCP232 if
        the object has the code for another kernel, and the code of a trampoline that cannot be
        changed and that no call in the object leads to.
        """
        paths = _slow_paths(elf, scan)
        sites = decide(scan, [site.settled for site in scan.sites], paths)
        _check_uncalled(elf, sites, paths)
        _check_existing(elf, offsets, list(paths.values()))
        todo = [
            trampoline
            for place, trampoline in _changed(scan).items()
            if paths[place].exits and not paths[place].code
        ]
        if not todo:
            return Plan(NAME, sites)
        offsets = _usable(elf, offsets)
        stubs: list[NewStub] = []
        for section in sorted({trampoline.section for trampoline in todo}):
            here = [trampoline for trampoline in todo if trampoline.section == section]
            exits = [at for trampoline in here for at in paths[place_of(trampoline)].exits]
            names = {trampoline.name for trampoline in here}
            calls = sum(
                site.state is Kept.TRAMPOLINE and site.trampoline in names for site in sites
            )
            stubs.append(_add_code(elf, additions, code(offsets), section, exits, calls))
        what = "saves LR and r2 on the livepatch stack on its path to another TOC"
        edits = tuple(TrampolineEdit.of(elf, trampoline, what) for trampoline in todo)
        return Plan(NAME, sites, tuple(stubs), edits)

    def cost(self, offsets: Offsets) -> Mapping[Action, Cost]:
        return {Kept.TRAMPOLINE: Cost(0, 24)}


STRATEGY = LivepatchStack()


def _changed(scan: Scan) -> dict[Place, Trampoline]:
    """The trampolines to change; of several at one place the last."""
    return {
        place_of(trampoline): trampoline
        for trampoline in scan.trampolines
        if is_changed(trampoline)
    }


def _slow_paths(elf: ElfFile, scan: Scan) -> dict[Place, SlowPath]:
    """How each of them comes to a target with another TOC."""
    read = Reader(elf)
    return {
        place: _in_reach(elf, trampoline, read(trampoline))
        for place, trampoline in _changed(scan).items()
    }


def _check_uncalled(elf: ElfFile, sites: Sequence[Site], paths: Mapping[Place, SlowPath]) -> None:
    """Raises ScpatchError for a trampoline that cannot be changed and that no site was refused for:
    other objects may call it."""
    refused = {
        (place_of(site.callee), site.code) for site in sites if isinstance(site.callee, Trampoline)
    }
    for place, path in sorted(paths.items()):
        if path.code and (place, path.code) not in refused:
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
    for path in paths:
        for saving in path.saving:
            present = saving.offsets.paca_thread_info, saving.offsets.livepatch_sp
            if None not in wanted and present != wanted:
                what = f"made for {_named(present)}, and the kernel has {_named(wanted)}"
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


def _add_code(
    elf: ElfFile,
    additions: Additions,
    code: bytes,
    section: int,
    exits: Sequence[int],
    calls: int,
) -> NewStub:
    """Adds the code to a section and sends the `exits` of trampolines there."""
    additions.append(section, lead(elf, section, SIZE))
    start, name = additions.end(section), PREFIX + Digest(elf).of(section)
    additions.append(section, code)
    additions.add_symbol(NewSymbol(name, section, start, SIZE, unique=False))
    for exit_ in exits:
        additions.patch(section, exit_, branch(exit_, start))
    return NewStub(name, "", section, elf.section_name(section), start, code, calls)
