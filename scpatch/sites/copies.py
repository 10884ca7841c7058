"""Copies of stubs that `ld -r` has left without a symbol, and that nothing runs.

If two objects brought the same stub, a linker keeps the first of the two weak symbols, and all
calls go there. The other stub stays where it was, as dead code, and its branch is no call. Code
that looks like a stub and is none, a thunk written by hand, is told from it by what leads there.
"""

from __future__ import annotations

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.ppc64 import insn
from scpatch.ppc64.branches import branches_into
from scpatch.ppc64.variant import VARIANT
from scpatch.sites.references import Reference


def is_dead_copy(elf: ElfFile, reference: Reference, twins: frozenset[tuple[int, int]]) -> bool:
    """Whether a branch ends the copy of a stub. `twins` are what the branches of stubs name that
    have a symbol, as (symbol, addend)."""
    table, section, end = reference.table, reference.section, reference.offset + 4
    start = end - 8
    code = elf.content(section)
    if table is None or reference.resolved or start < 0 or end > len(code) or start % 4:
        return False
    named = table.symbol[reference.position], table.r_addend[reference.position]
    if named not in twins or code[start:end] != _STUB or _runs_on(code, start):
        return False
    return not branches_into(code, [(start, end)]) and not _is_named(elf, section, start, end)


_STUB = VARIANT.encode(VARIANT.save_r2, insn.B)


def _runs_on(code: memoryview, start: int) -> bool:
    """Whether control may come from the word before. A zero is padding, and no instruction."""
    before = VARIANT.word(code, start - 4) if start else 0
    return before != 0 and insn.falls_through(before)


def _is_named(elf: ElfFile, section: int, start: int, end: int) -> bool:
    """Whether a symbol or a relocation names a place in a range of a section."""
    symbols = elf.symbols
    assert symbols is not None, "an object with call sites has symbols"
    home = {index for index, _ in symbols.in_sections({section})}
    values, infos = symbols.st_value, symbols.st_info
    for index in home:
        inside = start <= values[index] < end or values[index] < start < (
            values[index] + symbols.st_size[index]
        )
        if inside and infos[index] & 0xF != c.STT_SECTION:
            return True
    for target in elf.relocated:
        flags = elf.section(target, "a SHT_RELA table").sh_flags
        table = elf.relocations(target) if flags & c.SHF_ALLOC else None
        if table is None or home.isdisjoint(table.symbol):
            continue
        for symbol, addend in zip(table.symbol, table.r_addend, strict=True):
            if symbol in home and start <= values[symbol] + addend < end:
                return True
    return False
