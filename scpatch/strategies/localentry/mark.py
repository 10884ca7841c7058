"""Marks trampolines, and replaces the prologues that compute r2 from r12."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scpatch.elf.additions import Additions, NewRelocation, NewSymbol
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.asm import assemble, branch
from scpatch.ppc64.insn import in_branch_reach
from scpatch.ppc64.variant import without_local_entry
from scpatch.sites.model import Trampoline
from scpatch.strategies.added_code import Digest, added_name, leads
from scpatch.strategies.localentry.prologue import (
    SIZE,
    Prologue,
    place,
    read_prologues,
    toc_symbol,
)
from scpatch.strategies.plans import NewStub, TrampolineEdit

_PREFIX = "r2toc."
"""Of code that loads a trampoline's TOC pointer in place of its prologue."""
_CODE = "mflr 0\nbcl 20,31,4\nmflr 12\nmtlr 0\naddis 2,12,0\naddi 2,2,0"
_SIZE = 28
"""Bytes of that code with the branch back."""
_BASE, _HIGH, _LOW = 8, 16, 20
"""Offsets in that code: the address that LR is set to, and the two halves of the distance."""


def mark(
    elf: ElfFile, additions: Additions, wanted: Sequence[Trampoline], paca_toc: int | None
) -> tuple[list[NewStub], list[TrampolineEdit]]:
    """Marks trampolines, and replaces their prologues, once where two share a place."""
    prologues = read_prologues(elf, wanted)
    distinct = {
        trampoline.entry_place: trampoline
        for trampoline in wanted
        if prologues[trampoline.symbol].needs_r12
    }
    done = "marked"
    stubs: list[NewStub] = []
    if paca_toc is not None:
        done += ", r2 from the PACA"
        _load_from_paca(elf, additions, distinct.values(), prologues, paca_toc)
    elif distinct:
        done += ", r2 from the PC"
        stubs = _compute_from_pc(elf, additions, list(distinct.values()), prologues)
    edits = []
    for trampoline in wanted:
        additions.set_other(trampoline.symbol, without_local_entry(trampoline.st_other))
        what = done if trampoline.entry_place in distinct else "marked"
        edits.append(TrampolineEdit.of(elf, trampoline, what))
    return stubs, edits


def _load_from_paca(
    elf: ElfFile,
    additions: Additions,
    trampolines: Iterable[Trampoline],
    prologues: Mapping[int, Prologue],
    offset: int,
) -> None:
    if offset % 4 or not 0 <= offset < 0x8000:
        what = f"the offset {offset} does not fit `ld r2,OFFSET(r13)`"
        raise ScpatchError("SCP228", what, file=elf.name)
    load = [*assemble(f"ld 2,{offset}(13)"), insn.NOP]
    for trampoline in trampolines:
        _replace(additions, trampoline, prologues[trampoline.symbol], load)


def _replace(
    additions: Additions, trampoline: Trampoline, prologue: Prologue, words: Sequence[int]
) -> None:
    """Puts two other words in place of a prologue; its relocations stay, with nothing to do."""
    additions.patch_words(trampoline.section, trampoline.value, *words)
    for index in prologue.relocations:
        additions.retarget(trampoline.section, index, 0, relocs.R_PPC64_NONE)


def _compute_from_pc(
    elf: ElfFile,
    additions: Additions,
    trampolines: Sequence[Trampoline],
    prologues: Mapping[int, Prologue],
) -> list[NewStub]:
    """Sends trampolines through code at the end of their section, which knows its own address."""
    toc = toc_symbol(elf)
    by_section: dict[int, list[Trampoline]] = {}
    for trampoline in trampolines:
        if toc is None or trampoline.section not in elf.relocated:
            raise _unfit(elf, trampoline, "the object does not name .TOC.")
        by_section.setdefault(trampoline.section, []).append(trampoline)
    digest = Digest(elf)
    stubs: list[NewStub] = []
    sizes = {section: _SIZE * len(inside) for section, inside in sorted(by_section.items())}
    for section, code in leads(elf, sizes).items():
        additions.append(section, code)
        for trampoline in by_section[section]:
            assert toc is not None
            stubs.append(_append_code(elf, additions, digest, trampoline, toc))
            start = stubs[-1].offset
            detour = branch(trampoline.value, start), insn.NOP
            _replace(additions, trampoline, prologues[trampoline.symbol], detour)
    return stubs


def _unfit(elf: ElfFile, trampoline: Trampoline, what: str) -> ScpatchError:
    return ScpatchError("SCP228", what, file=elf.name, where=place(elf, trampoline))


def _append_code(
    elf: ElfFile, additions: Additions, digest: Digest, trampoline: Trampoline, toc: int
) -> NewStub:
    """Code that sets r2 and branches back to after the prologue. It preserves LR, but not r0 and
    r12: no call passes anything in them."""
    section, start = trampoline.section, additions.end(trampoline.section)
    if not in_branch_reach(start + _SIZE - trampoline.value):
        what = f"the end of {elf.section_name(section)} is out of a branch's reach"
        raise _unfit(elf, trampoline, what)
    words = assemble(_CODE)
    words.append(branch(start + 4 * len(words), trampoline.value + SIZE))
    code = elf.encoding.pack_words(*words)
    additions.append(section, code)
    name = added_name(_PREFIX, trampoline.name, digest.of(section, trampoline.symbol))
    additions.add_symbol(NewSymbol(name, section, start, len(code), unique=True))
    for word, kind in ((_HIGH, relocs.R_PPC64_REL16_HA), (_LOW, relocs.R_PPC64_REL16_LO)):
        at = word + elf.encoding.half
        additions.add_relocation(NewRelocation(section, start + at, toc, kind, at - _BASE))
    return NewStub(name, trampoline.name, section, elf.section_name(section), start, code, 0)
