"""Says what a branch to a trampoline is: a fact, whatever is to be done about it."""

from __future__ import annotations

from collections.abc import Sequence

from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile
from scpatch.elf.relocations import RelaTable
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.variant import RESTORE_R2
from scpatch.sites.choices import Choices, Undefined
from scpatch.sites.model import Callee, Kind, Site, Stub, Trampoline
from scpatch.sites.references import Reference, entries


class Judge:
    """Judges the branches of one object, each by itself."""

    def __init__(
        self,
        elf: ElfFile,
        functions: Functions,
        choices: Choices,
        trampolines: Sequence[Trampoline],
        *,
        module: bool,
    ) -> None:
        self._elf = elf
        self._functions = functions
        self._choices = choices
        self._module = module
        self._unfit = {trampoline.name for trampoline in trampolines if not trampoline.fits_stub}

    def site(self, reference: Reference) -> Site:
        """The call site with its kind, as far as the call and the word after it tell."""
        section, offset, callee = reference.section, reference.offset, reference.callee
        site = site_at(self._elf, self._functions, section, offset, callee)
        kind = relocs.R_PPC64_REL24
        if reference.table is not None and not reference.resolved:
            index, relocation = reference.position, reference.table[reference.position]
            kind, symbol, addend = relocation.type, relocation.symbol, relocation.r_addend
            site = site._replace(relocation=index, symbol=symbol, addend=addend)
        if offset % 4 or offset + 4 > len(self._elf.content(section)):
            return site.fault("SCP207", "the call is outside the section's whole words")
        if kind in relocs.NOTOC:
            site = site._replace(kind=Kind.NOTOC, detail="the caller does not use r2")
            return site._replace(may_patch=self._may_patch(site, reference, kind))
        faulty = self._branch_fault(site, reference, kind)
        return faulty or self._by_next_word(site, reference.table)

    def _may_patch(self, site: Site, reference: Reference, kind: int) -> bool:
        """What `Site.may_patch` says. The key of a call that the module loader sends through a stub
        is out of a table's reach."""
        callee = site.callee
        plain = insn.is_branch(site.word) and not insn.is_absolute(site.word)
        if not plain or kind in relocs.PLT_CALLS or reference.displaced:
            return False
        if not isinstance(callee, Trampoline) or callee.indirect or not callee.is_code:
            return False
        one_entry = callee.local_entry == callee.value
        return one_entry and not self._is_by_loader(callee)

    def _is_by_loader(self, trampoline: Trampoline) -> bool:
        """Whether the module loader makes the stub for a call."""
        undefined = self._choices.undefined
        skip = undefined is Undefined.SKIP or (undefined is Undefined.AUTO and self._module)
        unset = self._module and trampoline.weak_undefined
        return trampoline.livepatch or (trampoline.loaded and (skip or unset))

    def _branch_fault(self, site: Site, reference: Reference, kind: int) -> Site | None:
        """The site if it is faulty, whatever follows the branch."""
        callee = site.callee
        is_thunk = isinstance(callee, Stub) and callee.is_thunk
        if isinstance(callee, Trampoline) and not callee.is_code:
            return site.fault("SCP246", f"{callee.name} is data, by its type or its section")
        if reference.resolved and reference.displaced:
            return site.fault("SCP205", "the branch does not go to the trampoline's entry")
        if reference.resolved and (detail := self._resolved_fault(site, reference)):
            return site.fault("SCP212", detail, Kind.RESOLVED)
        if kind == relocs.R_PPC64_PLTCALL:
            return site.fault("SCP211", "an inline PLT call, which the linker rewrites")
        if self._relocations(reference.table, site.offset) > 1:
            return site.fault("SCP241", "more than one relocation applies to the call")
        plain = kind == relocs.R_PPC64_REL24 and insn.is_branch(site.word)
        if not plain or insn.is_absolute(site.word):
            return site.fault("SCP209", "the branch is conditional or absolute")
        # What a thunk's `bl` becomes, the restore after it makes right.
        if isinstance(callee, Stub) and not is_thunk and callee.trampoline in self._unfit:
            return site.fault("SCP248", f"no linker keeps the branch of {callee.name}")
        if not insn.links(site.word) and not is_thunk:
            return site.fault("SCP203", f"sibling call (b) to {site.trampoline}", Kind.SIBLING)
        if reference.displaced:
            return site.fault("SCP205", "the call has an addend, so it does not go to the entry")
        return None

    def _resolved_fault(self, site: Site, reference: Reference) -> str:
        """Why a call without a relocation cannot be sent to a stub, nor be left to a linker."""
        callee = site.callee
        if not insn.is_branch(site.word) or not insn.links(site.word):
            is_thunk = isinstance(callee, Stub) and callee.is_thunk and insn.is_branch(site.word)
            return "" if is_thunk else "the branch has no relocation, and is no call"
        to_local = insn.direct_target(site.word, site.offset) == entries(callee)[-1]
        if not to_local:
            return "the call has no relocation, and goes to the global entry point"
        if isinstance(callee, Trampoline) and callee.indirect:
            return f"the call has no relocation, and {callee.name} is STT_GNU_IFUNC"
        if isinstance(callee, Trampoline) and callee.marked and not self._choices.unmark:
            return "the call has no relocation, in which a linker could see st_other = 1"
        if reference.table is None and site.after != RESTORE_R2:
            return "the call has no relocation, and its section has none at all"
        return ""

    def _by_next_word(self, site: Site, table: RelaTable | None) -> Site:
        """The site, judged by what follows the call."""
        callee, after = site.callee, site.after
        if not insn.links(site.word):
            return site._replace(kind=Kind.RESTORED, detail=f"goes through {callee.name}")
        if isinstance(callee, Trampoline) and callee.indirect:
            return self._indirect(site, callee)
        field = insn.r13_offset(after or 0)
        if after == RESTORE_R2 or field is not None:
            return self._restored(site, callee, field)
        if isinstance(callee, Stub):
            return site.fault("SCP210", f"calls {callee.name} without a restore after it")
        site = self._left_to_others(site, callee)
        return site if site.kind is Kind.FAULTY else self._check_nop(site, table)

    def _indirect(self, site: Site, callee: Trampoline) -> Site:
        """A call of an STT_GNU_IFUNC: the linker saves and restores r2."""
        if self._module:
            return site.fault("SCP247", "the module loader takes it for a plain function")
        if site.symbol != callee.symbol:
            return site.fault("SCP247", "another symbol names it, so no linker sees its type")
        if site.after not in (*insn.NOPS, RESTORE_R2):
            return site.fault("SCP201", "no nop after the call", Kind.NO_NOP)
        detail = "the trampoline is STT_GNU_IFUNC, which is called through the PLT"
        return site._replace(kind=Kind.LINKER, detail=detail)

    def _restored(self, site: Site, callee: Callee, field: int | None) -> Site:
        """A call with a load of r2 after it: from 24(r1), or from a `field` of the PACA, which
        holds the kernel's TOC pointer."""
        if self._module and isinstance(callee, Trampoline) and callee.loaded:
            return site.fault("SCP213", "the module loader will find no nop after the call")
        if field is not None and self._module:
            return site.fault("SCP220", f"ld r2,{field}(r13) loads the kernel's TOC in a module")
        load = "24(r1)" if field is None else f"{field}(r13)"
        return site._replace(kind=Kind.RESTORED, detail=f"restored by ld r2,{load}")

    def _left_to_others(self, site: Site, trampoline: Trampoline) -> Site:
        """The site, if the module loader makes it right, or the linker would and does not."""
        if trampoline.marked and not self._choices.unmark:
            if self._module:
                detail = f"{site.trampoline} has no local entry point, and no linker follows"
                return site.fault("SCP208", detail)
            if site.symbol != trampoline.symbol:
                detail = f"another symbol names {site.trampoline}, so no linker sees its mark"
                return site.fault("SCP226", detail, Kind.UNNAMED)
        if trampoline.livepatch:
            if site.after != insn.NOP:
                return site.fault("SCP213", "the kernel will find no nop after the call")
            return site._replace(kind=Kind.LOADER, detail="a livepatch finds the trampoline")
        if self._is_by_loader(trampoline):
            return site._replace(kind=Kind.LOADER, detail="the trampoline is undefined here")
        return site

    def _check_nop(self, site: Site, table: RelaTable | None) -> Site:
        """The site, faulty if no nop follows the call. Whoever restores r2 needs it."""
        if site.after is None:
            return site.fault("SCP207", "the section ends after the call")
        if site.after not in insn.NOPS:
            return site.fault("SCP201", "no nop after the call", Kind.NO_NOP)
        if site.kind is Kind.LOADER or not self._relocations(table, site.offset + 4):
            return site
        detail = "a relocation applies to the nop after the call"
        return site.fault("SCP206", detail, Kind.RELOCATED)

    def _relocations(self, table: RelaTable | None, offset: int) -> int:
        """How many relocations other than TOCSAVE apply to the word of a call, or to the one after
        it, at a section offset."""
        if table is None:
            return 0
        types = [table.r_info[at] & 0xFFFFFFFF for at in table.between(offset, offset + 4)]
        return len(types) - types.count(relocs.R_PPC64_TOCSAVE)


def site_at(elf: ElfFile, functions: Functions, section: int, offset: int, callee: Callee) -> Site:
    """The call site at a section offset, with what its words say and nothing judged."""
    function, function_offset = functions.name(section, offset)
    code = elf.content(section)
    return Site(
        section,
        elf.section_name(section),
        offset,
        function,
        function_offset,
        callee.trampoline if isinstance(callee, Stub) else callee.name,
        callee,
        symbol=callee.symbol,
        word=_word_at(elf, code, offset) or 0,
        after=_word_at(elf, code, offset + 4),
        file_offset=elf.sections[section].sh_offset + offset,
    )


def _word_at(elf: ElfFile, code: memoryview, offset: int) -> int | None:
    """The word at a section offset; None outside the section."""
    if offset < 0 or offset + 4 > len(code):
        return None
    return elf.encoding.word(code, offset)
