"""Instructions of a function that a linker may change, by their relocations.

A linker may replace an instruction that carries a marker, and makes a nop of a branch to a weak
symbol that nobody defines. What the kernel changes is in `scpatch.linux.patched`.

Source: GNU ld, ppc64_elf_relocate_section, ppc64_elf_inline_plt, ppc64_elf_tls_optimize.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.structures import Relocation
from scpatch.elf.symtab import SymbolTable
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.variant import VARIANT

_TWO_WORDS = frozenset({38, 43, 44, 51})  # ADDR64, UADDR64, REL64, TOC


class Changeable(NamedTuple):
    """Section offsets of instructions."""

    unsure: set[int]
    """Those that may be nops."""
    unknown: set[int]
    """Those that may be anything: a relocation fills in their displacement from r1."""
    saves: set[int]
    """Nops that GNU ld may turn into `std r2,24(r1)` (R_PPC64_TOCSAVE)."""


def changeable(
    words: array[int], start: int, relocations: Sequence[Relocation], symbols: SymbolTable
) -> Changeable:
    """What the relocations of a function allow a linker. `start` is the section offset of its first
    word."""
    changes = Changeable(set(), set(), set())
    for item in relocations:
        at, kind = item.r_offset & ~3, item.type
        if kind == relocs.R_PPC64_NONE:
            continue
        is_plain = kind in relocs.BRANCHES and kind not in relocs.PLT_CALLS
        if not is_plain or _is_weak(symbols, item.symbol):
            changes.unsure.add(at)
        if kind in relocs.PLT_CALLS | relocs.TLS_CALLS or kind in _TWO_WORDS:
            changes.unsure.add(at + 4)
        elif kind == relocs.R_PPC64_PCREL_OPT:
            changes.unsure.add((item.r_offset + item.r_addend) & ~3)
        index = at - start >> 2
        word = words[index] if 0 <= index < len(words) else 0
        if kind == relocs.R_PPC64_TOCSAVE:
            if word in insn.NOPS:
                changes.saves.add(at)
        elif kind not in relocs.BRANCHES | relocs.MARKERS and insn.base_is_r1(word):
            changes.unknown.add(at)
    return changes


def with_saves(words: array[int], start: int, saves: set[int]) -> array[int]:
    """The code with its possible saves in place; they are unsure all the same."""
    changed = array("I", words)
    for at in saves:
        changed[at - start >> 2] = VARIANT.save_r2
    return changed


def _is_weak(symbols: SymbolTable, index: int) -> bool:
    return symbols[index].binding == c.STB_WEAK and symbols.section_index(index) == c.SHN_UNDEF
