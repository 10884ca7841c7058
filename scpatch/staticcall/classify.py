"""Says for each call site what it is and what is to be done with it, or why it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.ppc64 import insn, relocs
from scpatch.staticcall import record
from scpatch.staticcall.model import Scan, Site, State, Stub, Trampoline
from scpatch.staticcall.sites import Callee, Reference, check_elsewhere, find_references
from scpatch.staticcall.symbols import (
    DEFAULT_TRAMPOLINES,
    Functions,
    find_stubs,
    find_trampolines,
)


class Choices(NamedTuple):
    """What the user may choose about sites."""

    trampolines: tuple[str, ...] = DEFAULT_TRAMPOLINES
    """Shell patterns of trampoline names."""
    undefined: str = "auto"
    """Sites against undefined trampolines: `rewrite`, `skip`, or by the kind of object (`auto`)."""
    no_nop: str = "refuse"
    """Sites without a usable nop: `refuse` or `thunk`."""
    unmark: bool = False
    """Take trampolines that are marked (st_other bits 5-7 = 1) for unmarked, as they will be."""
    hoist: str = "auto"
    """Whether r2 may be saved in the nop behind an earlier call of the function: in a linked module
    (`auto`), also in an object that ends in a kernel (`kernel`), or not (`never`)."""


def scan(elf: ElfFile, choices: Choices) -> Scan:
    """Trampolines and classified call sites, in section and offset order."""
    symbols = elf.symbols
    if symbols is None:
        return Scan((), (), (), module=False)
    trampolines = find_trampolines(symbols, choices.trampolines)
    stubs = find_stubs(symbols, choices.trampolines)
    recorded = record.find(elf)
    if not trampolines and not stubs:
        return Scan((), (), (), module=False, strategies=recorded)
    from scpatch.staticcall.resolved import resolved_calls

    check_elsewhere(elf, [*trampolines, *stubs])
    references = list(find_references(elf, trampolines, stubs))
    module = is_module(elf)
    others = set(recorded) - {"callsite", "localentry" if choices.unmark else ""}
    sites = _Classifier(elf, choices, stubs, references, module, kept=bool(others)).classify()
    if resolved := resolved_calls(elf, trampolines):
        sites = sorted(sites + resolved, key=lambda site: (site.section, site.offset))
    if "livepatch-stack" in recorded:
        from scpatch.staticcall.livepatch import kept

        sites = kept(elf, trampolines, sites)
    return Scan(tuple(trampolines), tuple(stubs), tuple(sites), module, recorded)


def is_module(elf: ElfFile) -> bool:
    """Whether the object is a linked kernel module: only those have `struct module` in them."""
    return bool(elf.sections_named(".gnu.linkonce.this_module"))


class _Classifier:
    def __init__(
        self,
        elf: ElfFile,
        choices: Choices,
        stubs: Sequence[Stub],
        references: Sequence[Reference],
        module: bool,
        *,
        kept: bool,
    ) -> None:
        """`kept` says that the object's calls are made right in another way than by stubs."""
        self._elf = elf
        self._kept = kept
        self._choices = choices
        self._stubs: dict[int, list[Stub]] = {}
        for stub in stubs:
            self._stubs.setdefault(stub.section, []).append(stub)
        self._references = references
        self._module = module
        sections = {reference.table.target for reference in references}
        self._functions = Functions(elf, sections)
        self._names = {section: elf.section_name(section) for section in sections}
        self._calls: dict[int, list[int]] = {}
        for one in references:
            offset = one.table.r_offset[one.position]
            self._calls.setdefault(one.table.target, []).append(offset)
        self._by_offset: dict[int, set[int]] = {}

    def classify(self) -> list[Site]:
        sites = [
            self._site(reference) for reference in self._references if not self._in_stub(reference)
        ]
        sites.sort(key=lambda site: (site.section, site.offset))
        open_sites = [site for site in sites if site.state is State.REWRITE]
        marked = self._marked()
        if open_sites:
            # Most objects of a build have no such site, and need not load this either.
            from scpatch.staticcall.flow import Around, settle
            from scpatch.staticcall.labels import find_labels
            from scpatch.staticcall.other_calls import OtherCalls
            from scpatch.staticcall.patched import find_patched

            labels = find_labels(self._elf, {site.section for site in open_sites})
            hoist = self._choices.hoist
            free = not self._kept and (self._module if hoist == "auto" else hoist == "kernel")
            symbols = self._callees()
            calls = OtherCalls(self._elf, symbols, module=self._module, free=free)
            stubless = symbols if self._kept else marked
            patched = find_patched(self._elf)
            around = Around(self._elf, self._functions, labels, patched, calls, stubless)
            sites = settle(around, sites, self._loadable() | marked)
        if self._choices.no_nop == "thunk":
            sites = [site if site.symbol in marked else _as_thunk(site) for site in sites]
        return [_as_linkers(site) if site.symbol in marked else site for site in sites]

    def _marked(self) -> frozenset[int]:
        """The symbols of trampolines whose calls a linker is to see to."""
        if self._module or self._choices.unmark:
            return frozenset()
        callees = {one.callee for one in self._references}
        return frozenset(
            one.symbol for one in callees if isinstance(one, Trampoline) and one.marked
        )

    def _callees(self) -> frozenset[int]:
        """The symbols of trampolines and stubs that are called."""
        callees = {one.callee for one in self._references}
        return frozenset(one.symbol for one in callees)

    def _loadable(self) -> frozenset[int]:
        """Symbols whose calls the module loader may have to patch, which wants a nop for it.

        Where a trampoline that an object does not define ends up is not known: if in a module, the
        loader stubs the call, and refuses a module with anything but a nop behind it
        (restore_r2 in arch/powerpc/kernel/module_64.c). The `b` of a stub needs none.
        """
        if self._choices.undefined == "rewrite" and not self._module:
            return frozenset()
        callees = {one.callee for one in self._references}
        return frozenset(
            one.symbol for one in callees if isinstance(one, Trampoline) and not one.defined
        )

    def _in_stub(self, reference: Reference) -> bool:
        """The branch inside a stub is not a call site. Stubs lead to trampolines only."""
        if isinstance(reference.callee, Stub):
            return False
        offset = reference.table.r_offset[reference.position]
        inside = self._stubs.get(reference.table.target, ())
        if any(stub.value <= offset < stub.value + stub.size for stub in inside):
            return True
        # Where two objects brought the same stub, `ld -r` keeps one symbol for both.
        section = reference.table.target
        code = self._elf.content(section)
        return (
            _word(code, offset) == insn.B
            and _word(code, offset - 4) == insn.STD_R2
            and self._functions.covering(section, offset) is None
        )

    def _site(self, reference: Reference) -> Site:
        table = reference.table
        section, relocation = table.target, table[reference.position]
        code = self._elf.content(section)
        offset = relocation.r_offset
        function, function_offset = self._functions.name(section, offset)
        site = Site(
            section=section,
            section_name=self._names[section],
            offset=offset,
            function=function,
            function_offset=function_offset,
            trampoline=_trampoline_name(reference.callee),
            state=State.REWRITE,
            relocation=reference.position,
            symbol=relocation.symbol,
            addend=relocation.r_addend,
            word=_word(code, offset) or 0,
            after=_word(code, offset + 4),
        )
        if offset % 4 or offset + 4 > len(code):
            return refuse(site, "SCP207", "the call lies outside the section's whole words")
        return self._judge(site, reference, relocation.type)

    def _judge(self, site: Site, reference: Reference, kind: int) -> Site:
        """The state of a site whose branch word is there."""
        callee = reference.callee
        if kind in relocs.NOTOC:
            return site._replace(state=State.NOTOC, detail="the caller does not use r2")
        if kind == relocs.R_PPC64_PLTCALL:
            return refuse(site, "SCP211", "an inline PLT call, which the linker rewrites")
        if kind != relocs.R_PPC64_REL24 or not insn.is_branch(site.word):
            return refuse(site, "SCP209", "the branch is conditional or absolute")
        if insn.is_absolute(site.word):
            return refuse(site, "SCP209", "the branch is conditional or absolute")
        if not insn.links(site.word):
            if isinstance(callee, Stub) and callee.is_thunk:
                return site._replace(state=State.DONE, detail=f"goes through {callee.name}")
            return refuse(site, "SCP203", f"sibling call (b) to {site.trampoline}")
        if reference.displaced:
            return refuse(site, "SCP205", "the call has an addend, so it does not go to the entry")
        if site.after == insn.LD_R2:
            if self._module and isinstance(callee, Trampoline) and not callee.defined:
                return refuse(site, "SCP213", "the module loader will find no nop behind the call")
            return site._replace(state=State.DONE, detail="restored by ld r2,24(r1)")
        if (offset := insn.paca_offset(site.after or 0)) is not None:
            return self._from_paca(site, callee, offset)
        if isinstance(callee, Stub):
            return refuse(site, "SCP210", f"calls {callee.name} without a restore behind it")
        return self._needs_nop(self._kept_by_others(site, callee), reference.table)

    def _from_paca(self, site: Site, callee: Callee, offset: int) -> Site:
        """A site behind which r2 is loaded from the PACA: right in the kernel image only."""
        if not self._module:
            return site._replace(state=State.DONE, detail=f"restored by ld r2,{offset}(r13)")
        if isinstance(callee, Trampoline) and not callee.defined:
            return refuse(site, "SCP213", "the module loader will find no nop behind the call")
        return refuse(site, "SCP220", f"ld r2,{offset}(r13) loads the kernel's TOC in a module")

    def _kept_by_others(self, site: Site, trampoline: Trampoline) -> Site:
        """Marks a site that the module loader makes right, and one that the linker would not."""
        if trampoline.marked and not self._choices.unmark:
            if self._module:
                return refuse(
                    site,
                    "SCP208",
                    f"{site.trampoline} has no local entry point, and no linker follows",
                )
            if site.symbol != trampoline.symbol:
                return refuse(
                    site,
                    "SCP226",
                    f"{site.trampoline} is named by its section, so that no linker sees its mark",
                )
        if trampoline.livepatch:
            if site.after != insn.NOP:
                return refuse(site, "SCP213", "the kernel will find no nop behind the call")
            return site._replace(state=State.LOADER, detail="a livepatch finds the trampoline")
        undefined = self._choices.undefined
        skip = undefined == "skip" or (undefined == "auto" and self._module)
        if not trampoline.defined and skip:
            return site._replace(state=State.LOADER, detail="the trampoline is undefined here")
        return site

    def _needs_nop(self, site: Site, table: RelaTable) -> Site:
        """Checks what lies behind the call; whoever restores r2 needs a nop there."""
        if site.state is State.REFUSED:
            return site
        if site.after is None:
            return refuse(site, "SCP207", "the section ends behind the call")
        if site.after not in insn.NOPS:
            return refuse(site, "SCP201", "no nop behind the call")
        if site.state is State.REWRITE and self._relocated(table, site.offset + 4):
            return refuse(site, "SCP206", "a relocation lies on the nop behind the call")
        return site

    def _relocated(self, table: RelaTable, offset: int) -> bool:
        """Whether a relocation other than TOCSAVE lies on the word at a section offset."""
        if table.target not in self._by_offset:
            calls = self._calls[table.target]
            found = {call + 4 + byte for call in calls for byte in range(4)}.intersection(
                table.r_offset
            )
            self._by_offset[table.target] = found and {
                at
                for index, at in enumerate(table.r_offset)
                if at in found and table[index].type != relocs.R_PPC64_TOCSAVE
            }
        return any(at in self._by_offset[table.target] for at in range(offset, offset + 4))


def refuse(site: Site, code: str, detail: str) -> Site:
    return site._replace(state=State.REFUSED, code=code, detail=detail)


NEEDS_THUNK = frozenset({"SCP201", "SCP202", "SCP206", "SCP240"})
"""The refusals that a thunk does without: there is no nop, or it cannot be used."""


def _as_thunk(site: Site) -> Site:
    if site.state is State.REFUSED and site.code in NEEDS_THUNK:
        return site._replace(state=State.THUNK)
    return site


def _as_linkers(site: Site) -> Site:
    """A site that the linker sees to, since its relocation names a marked trampoline."""
    if site.state not in (State.REWRITE, State.SAVED):
        return site
    return site._replace(state=State.LINKER, detail="the trampoline has st_other = 1")


def _trampoline_name(callee: Trampoline | Stub) -> str:
    return callee.trampoline if isinstance(callee, Stub) else callee.name


def _word(code: memoryview, offset: int) -> int | None:
    if offset < 0 or offset + 4 > len(code):
        return None
    return int.from_bytes(code[offset : offset + 4], "little")
