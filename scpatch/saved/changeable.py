"""Instructions of a function that are not what their words say, by their relocations.

A linker may replace an instruction that carries a marker, with or without a trace of what it was,
and makes a nop of a branch to a weak symbol that nobody defines. The kernel's own changes are in
`patched`.

Source: GNU ld, ppc64_elf_relocate_section, ppc64_elf_inline_plt, ppc64_elf_tls_optimize.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import Relocation
from scpatch.elf.symtab import SymbolTable
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.variant import VARIANT

_TWO_WORDS = frozenset({38, 43, 44, 51})  # ADDR64, UADDR64, REL64, TOC


class Changeable(NamedTuple):
    """Section offsets of instructions."""

    unsure: set[int]
    """Those that may be nops."""
    unknown: set[int]
    """Those that may be anything: relocated where the displacement from r1 is."""
    saves: set[int]
    """Nops that GNU ld may make `std r2,24(r1)` of (R_PPC64_TOCSAVE)."""


def changeable(
    code: bytes, start: int, relocations: Sequence[Relocation], symbols: SymbolTable
) -> Changeable:
    """What the relocations of a function allow a linker. `code` lies at the offset `start`."""
    found = Changeable(set(), set(), set())
    for one in relocations:
        at, kind = one.r_offset & ~3, one.type
        if kind == relocs.R_PPC64_NONE:
            continue
        if kind not in relocs.BRANCHES or kind in relocs.PLT_CALLS or _is_weak(symbols, one.symbol):
            found.unsure.add(at)
        if kind in relocs.PLT_CALLS | relocs.TLS_CALLS or kind in _TWO_WORDS:
            found.unsure.add(at + 4)
        elif kind == relocs.R_PPC64_PCREL_OPT:
            found.unsure.add((one.r_offset + one.r_addend) & ~3)
        word = VARIANT.word(code, at - start)
        if kind == relocs.R_PPC64_TOCSAVE:
            if word in insn.NOPS:
                found.saves.add(at)
        elif kind not in relocs.BRANCHES | relocs.MARKERS and insn.base_is_r1(word):
            found.unknown.add(at)
    return found


def with_saves(code: bytes, start: int, saves: set[int]) -> bytes:
    """The code with its possible saves in place; they are unsure all the same."""
    new = bytearray(code)
    for at in saves:
        new[at - start : at - start + 4] = VARIANT.encode(VARIANT.save_r2)
    return bytes(new) if saves else code


def _is_weak(symbols: SymbolTable, index: int) -> bool:
    return symbols[index].binding == c.STB_WEAK and symbols.section_index(index) == c.SHN_UNDEF
