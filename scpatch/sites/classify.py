"""Says for each call site what it is and what is to be done with it, or why it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.variant import VARIANT
from scpatch.sites import record
from scpatch.sites.choices import Choices, Hoist, NoNop, Undefined
from scpatch.sites.model import Scan, Site, State, Stub, Trampoline
from scpatch.sites.references import Callee, Reference, find_references
from scpatch.sites.symbols import find_stubs, find_trampolines


def scan(elf: ElfFile, choices: Choices) -> Scan:
    """Trampolines and classified call sites, in section and offset order."""
    symbols = elf.symbols
    if symbols is None:
        return Scan((), (), (), module=False)
    named = [
        one._replace(in_data=one.defined and not elf.is_executable(one.section))
        for one in find_trampolines(symbols, choices.trampolines)
    ]
    stubs = find_stubs(symbols, choices.trampolines)
    recorded = record.find(elf)
    if not named and not stubs:
        return Scan((), (), (), module=False, strategies=recorded)
    from scpatch.sites.resolved import resolved_calls

    references = list(find_references(elf, named, stubs))
    trampolines = [one for one in named if one.is_code]
    references += resolved_calls(elf, trampolines, stubs)
    module = is_module(elf)
    others = set(recorded) - {"callsite", "localentry" if choices.unmark else ""}
    unfit = [one for one in trampolines if not one.fits_stub]
    classifier = _Classifier(
        elf, choices, stubs, references, module, unfit=unfit, kept=bool(others)
    )
    sites = classifier.classify()
    if "livepatch-stack" in recorded:
        from scpatch.strategies.livepatch_stack.stack_code import kept

        sites = kept(elf, trampolines, sites, module=module)
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
        unfit: Sequence[Trampoline],
        kept: bool,
    ) -> None:
        """`unfit` are the trampolines that no stub can branch to; `kept` says that the object's
        calls are made right in another way than by stubs."""
        self._elf = elf
        self._kept = kept
        self._choices = choices
        self._stubs: dict[int, list[Stub]] = {}
        for stub in stubs:
            self._stubs.setdefault(stub.section, []).append(stub)
        self._references = references
        self._module = module
        sections = {reference.section for reference in references}
        self._functions = Functions(elf, sections)
        self._names = {section: elf.section_name(section) for section in sections}
        self._calls: dict[int, list[int]] = {}
        for one in references:
            self._calls.setdefault(one.section, []).append(one.offset)
        self._unfit = unfit
        self._by_offset: dict[int, set[int]] = {}

    def classify(self) -> list[Site]:
        sites = [
            self._site(reference) for reference in self._references if not self._in_stub(reference)
        ]
        sites.sort(key=lambda site: (site.section, site.offset))
        open_sites = [site for site in sites if site.state is State.REWRITE]
        marked = self._marked()
        if open_sites:
            sites = self._settled(sites, marked)
        if self._choices.no_nop is NoNop.THUNK:
            # The loader wants a nop behind the call in the thunk as well.
            other = marked | (self._loaded() if self._module else frozenset())
            sites = [site if site.symbol in other else _as_thunk(site) for site in sites]
        return [_as_linkers(site) if site.symbol in marked else site for site in sites]

    def _settled(self, sites: list[Site], marked: frozenset[int]) -> list[Site]:
        """The sites, with SAVED and the refusals told from REWRITE that need the whole object."""
        # Most objects of a build have no such site, and need not load this either.
        from scpatch.saved.settle import After, Call, Fault, settle

        callees = self._callees()
        stubless = callees if self._kept else marked
        unfit = frozenset(one.symbol for one in self._unfit) - stubless
        must_stub = self._loadable() | marked

        def call(site: Site) -> Call:
            is_open = site.state is State.REWRITE
            after = After.CLOBBERED if site.state is State.REFUSED else After.KEPT
            if is_open and site.symbol not in stubless:
                after = After.SAVED if site.symbol in unfit else After.STUB
            reuse = is_open and site.symbol not in must_stub
            return Call(site.section, site.offset, after, needs_nop=is_open, may_reuse=reuse)

        hoist = self._choices.hoist
        free = not self._kept and (self._module if hoist is Hoist.AUTO else hoist is Hoist.KERNEL)
        calls = [call(site) for site in sites]
        faults, saves = settle(
            self._elf, self._functions, calls, callees, module=self._module, free_nops=free
        )

        def settled(site: Site) -> Site:
            place = site.section, site.offset
            if site.state is not State.REWRITE:
                return site
            if (fault := faults.get(place)) is Fault.ENTERED:
                return refuse(site, "SCP202", "the nop behind the call is a branch target")
            if fault is Fault.PATCHED:
                detail = "the kernel patches the call and the nop behind it apart"
                return refuse(site, "SCP240", detail)
            if place in saves:
                return _saved(site, saves[place])
            return self._without_stub(site) if site.symbol in unfit else site

        return [settled(site) for site in sites]

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
        if self._choices.undefined is Undefined.REWRITE and not self._module:
            return frozenset()
        return self._loaded()

    def _loaded(self) -> frozenset[int]:
        callees = {one.callee for one in self._references}
        return frozenset(
            one.symbol for one in callees if isinstance(one, Trampoline) and one.loaded
        )

    def _without_stub(self, site: Site) -> Site:
        """A site whose trampoline no stub can branch to."""
        if site.state is not State.REWRITE:
            return site
        return refuse(site, "SCP245", f"a stub for {site.trampoline}, which is weak and undefined")

    def _in_stub(self, reference: Reference) -> bool:
        """The branch inside a stub is not a call site, nor is a trampoline's to itself. Stubs lead
        to trampolines only."""
        callee, offset = reference.callee, reference.offset
        if isinstance(callee, Stub):
            return False
        if reference.section == callee.section and 0 <= offset - callee.value < callee.size:
            return True
        inside = self._stubs.get(reference.section, ())
        if any(stub.value <= offset < stub.value + stub.size for stub in inside):
            return True
        code = self._elf.content(reference.section)
        looks = _word(code, offset) == insn.B and _word(code, offset - 4) == VARIANT.save_r2
        if not looks or not self._stubs:
            return False
        from scpatch.sites.copies import is_dead_copy

        return is_dead_copy(self._elf, reference, self._twins)

    @cached_property
    def _twins(self) -> frozenset[tuple[int, int]]:
        """What the branches of stubs name."""
        found = set()
        for section, inside in self._stubs.items():
            table = self._elf.relocations(section)
            branches = {stub.value + 4 for stub in inside}
            for index, offset in enumerate(table.r_offset if table is not None else ()):
                if table is not None and offset in branches:
                    found.add((table.symbol[index], table.r_addend[index]))
        return frozenset(found)

    def _site(self, reference: Reference) -> Site:
        section, offset = reference.section, reference.offset
        code = self._elf.content(section)
        kind, symbol, addend = relocs.R_PPC64_REL24, reference.callee.symbol, 0
        if not reference.resolved:
            assert reference.table is not None, "it has the relocation"
            relocation = reference.table[reference.position]
            kind, symbol, addend = relocation.type, relocation.symbol, relocation.r_addend
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
            symbol=symbol,
            addend=addend,
            word=_word(code, offset) or 0,
            after=_word(code, offset + 4),
        )
        if offset % 4 or offset + 4 > len(code):
            return refuse(site, "SCP207", "the call lies outside the section's whole words")
        return self._judge(site, reference, kind)

    def _judge(self, site: Site, reference: Reference, kind: int) -> Site:
        """The state of a site whose branch word is there."""
        callee = reference.callee
        if kind in relocs.NOTOC:
            return site._replace(state=State.NOTOC, detail="the caller does not use r2")
        if fault := self._form(site, reference, kind):
            return refuse(site, *fault)
        if not insn.links(site.word):
            return site._replace(state=State.DONE, detail=f"goes through {callee.name}")
        if isinstance(callee, Trampoline) and callee.indirect:
            return self._indirect(site, callee)
        if site.after == VARIANT.restore_r2:
            if self._module and isinstance(callee, Trampoline) and callee.loaded:
                return refuse(site, "SCP213", "the module loader will find no nop behind the call")
            return site._replace(state=State.DONE, detail="restored by ld r2,24(r1)")
        if (offset := insn.r13_offset(site.after or 0)) is not None:
            return self._from_paca(site, callee, offset)
        if isinstance(callee, Stub):
            return refuse(site, "SCP210", f"calls {callee.name} without a restore behind it")
        return self._needs_nop(self._kept_by_others(site, callee), reference.table)

    def _form(self, site: Site, reference: Reference, kind: int) -> tuple[str, str] | None:
        """The code and the reason if nothing can be done about the call, whatever follows it."""
        callee = reference.callee
        if isinstance(callee, Trampoline) and not callee.is_code:
            return "SCP246", f"{callee.name} is data, by its type or its section"
        if reference.resolved and (fault := self._resolved_fault(site, reference)):
            return "SCP212", fault
        if kind == relocs.R_PPC64_PLTCALL:
            return "SCP211", "an inline PLT call, which the linker rewrites"
        plain = kind == relocs.R_PPC64_REL24 and insn.is_branch(site.word)
        if not plain or insn.is_absolute(site.word):
            return "SCP209", "the branch is conditional or absolute"
        if isinstance(callee, Stub) and self._leads_nowhere(callee):
            return "SCP248", f"no linker keeps the branch of {callee.name}"
        to_thunk = isinstance(callee, Stub) and callee.is_thunk
        if not insn.links(site.word) and not to_thunk:
            return "SCP203", f"sibling call (b) to {site.trampoline}"
        if reference.displaced:
            return "SCP205", "the call has an addend, so it does not go to the entry"
        return None

    def _leads_nowhere(self, stub: Stub) -> bool:
        # What a thunk's `bl` becomes, the restore behind it makes right.
        return not stub.is_thunk and any(one.name == stub.trampoline for one in self._unfit)

    def _resolved_fault(self, site: Site, reference: Reference) -> str:
        """Why a call without a relocation cannot be led to a stub, nor be left to a linker."""
        callee = reference.callee
        if not insn.is_branch(site.word) or not insn.links(site.word):
            is_thunk = isinstance(callee, Stub) and callee.is_thunk and insn.is_branch(site.word)
            return "" if is_thunk else "the branch has no relocation, and is no call"
        if reference.displaced:
            return "the call has no relocation, and goes to the global entry point"
        if isinstance(callee, Trampoline) and callee.indirect:
            return f"the call has no relocation, and {callee.name} is STT_GNU_IFUNC"
        if isinstance(callee, Trampoline) and callee.marked and not self._choices.unmark:
            return "the call has no relocation, in which a linker could see st_other = 1"
        if reference.table is None and site.after != VARIANT.restore_r2:
            return "the call has no relocation, and its section has none at all"
        return ""

    def _indirect(self, site: Site, callee: Trampoline) -> Site:
        """A call of an STT_GNU_IFUNC: the linker saves and restores r2."""
        if self._module:
            return refuse(site, "SCP247", "the module loader takes it for a plain function")
        if site.symbol != callee.symbol:
            return refuse(site, "SCP247", "another symbol names it, so no linker sees its type")
        if site.after not in (*insn.NOPS, VARIANT.restore_r2):
            return refuse(site, "SCP201", "no nop behind the call")
        detail = "the trampoline is STT_GNU_IFUNC, which is called through the PLT"
        return site._replace(state=State.LINKER, detail=detail)

    def _from_paca(self, site: Site, callee: Callee, offset: int) -> Site:
        """A site behind which r2 is loaded from the PACA: right in the kernel image only."""
        if not self._module:
            return site._replace(state=State.DONE, detail=f"restored by ld r2,{offset}(r13)")
        if isinstance(callee, Trampoline) and callee.loaded:
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
                    f"another symbol names {site.trampoline}, so that no linker sees its mark",
                )
        if trampoline.livepatch:
            if site.after != insn.NOP:
                return refuse(site, "SCP213", "the kernel will find no nop behind the call")
            return site._replace(state=State.LOADER, detail="a livepatch finds the trampoline")
        undefined = self._choices.undefined
        skip = undefined is Undefined.SKIP or (undefined is Undefined.AUTO and self._module)
        skip = skip or (self._module and trampoline.weak_undefined)
        if trampoline.loaded and skip:
            return site._replace(state=State.LOADER, detail="the trampoline is undefined here")
        return site

    def _needs_nop(self, site: Site, table: RelaTable | None) -> Site:
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

    def _relocated(self, table: RelaTable | None, offset: int) -> bool:
        """Whether a relocation other than TOCSAVE lies on the word at a section offset."""
        if table is None:
            return False
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


def _saved(site: Site, nops: tuple[int, ...]) -> Site:
    """The site as one that needs no stub."""
    detail = "r2 lies in 24(r1) on every path here"
    if nops:
        where = ", ".join(f"{site.section_name}+{nop:#x}" for nop in nops)
        detail = f"r2 can be saved in {where}, behind earlier calls"
    return site._replace(state=State.SAVED, detail=detail, saves=nops)


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
    return VARIANT.word(code, offset)
