"""What a trampoline does at its global entry point to get its TOC pointer into r2.

A function with two entry points computes r2 from r12, which holds the address of the global one
(psABI 3.4.1). Compilers and hand-written code have three forms of it, of two instructions each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Relocation
from scpatch.errors import ScpatchError
from scpatch.ppc64 import relocs
from scpatch.ppc64.variant import VARIANT
from scpatch.sites.model import Trampoline

SIZE: Final = 8
"""Bytes of a prologue of any form, and so the offset of the local entry point behind it."""


class Form(StrEnum):
    """How r2 is set."""

    NONE = "none"
    """There is one entry point, and r2 is not used as the TOC pointer."""
    ABSOLUTE = "lis/addi"
    """`lis r2,.TOC.@ha; addi r2,r2,.TOC.@l`: needs no register, in an image that is not moved."""
    RELATIVE = "addis/addi"
    """`addis r2,r12,(.TOC.-x)@ha; addi r2,r2,(.TOC.-x)@l`"""
    LOADED = "ld/add"
    """`ld r2,d(r12); add r2,r2,r12`, R_PPC64_ENTRY on it: the TOC may be anywhere."""
    PACA = "ld r2,N(r13)"
    """`ld r2,N(r13)`: what `localentry` makes of a prologue in a kernel."""


class Prologue(NamedTuple):
    form: Form
    relocations: tuple[int, ...] = ()
    """Indices in the section's SHT_RELA table of those on the two words."""

    @property
    def needs_r12(self) -> bool:
        return self.form in (Form.RELATIVE, Form.LOADED)


_SECOND_ADDI: Final = 0x3842  # addi r2,r2,...
_FORMS: Final[Mapping[int, Form]] = {
    0x3C4C: Form.RELATIVE,  # addis r2,r12,...
    0x3C40: Form.ABSOLUTE,  # lis r2,...
    0xE84C: Form.LOADED,  # ld r2,...(r12)
    0xE84D: Form.PACA,  # ld r2,...(r13)
}
"""By the upper half of the first word."""
_ADD: Final = 0x7C426214
"""`add r2,r2,r12`"""

_PAIRS: Final = {
    Form.RELATIVE: (relocs.R_PPC64_REL16_HA, relocs.R_PPC64_REL16_LO),
    Form.ABSOLUTE: (relocs.R_PPC64_ADDR16_HA, relocs.R_PPC64_ADDR16_LO),
}


def read_prologues(elf: ElfFile, trampolines: Iterable[Trampoline]) -> dict[int, Prologue]:
    """The prologues of trampolines that the object defines, by their symbols.

    Raises SCP227 for one whose prologue is none of the known ones.
    """
    wanted = list(trampolines)
    relocations = _relocations(elf, wanted)
    return {one.symbol: _read(elf, one, relocations[one.symbol]) for one in wanted}


Indexed = Sequence[tuple[int, Relocation]]


def _relocations(elf: ElfFile, trampolines: Sequence[Trampoline]) -> Mapping[int, Indexed]:
    """The relocations inside each trampoline with their indices, by the trampoline's symbol."""
    found: dict[int, list[tuple[int, Relocation]]] = {one.symbol: [] for one in trampolines}
    covered: dict[int, dict[int, list[int]]] = {}
    for one in trampolines:
        here = covered.setdefault(one.section, {})
        end = elf.sections[one.section].sh_size if one.section < len(elf.sections) else 0
        for at in range(one.value, min(one.value + max(one.size, SIZE), end)):
            here.setdefault(at, []).append(one.symbol)
    for section, here in covered.items():
        table = elf.relocations(section) if section < len(elf.sections) else None
        if table is None:
            continue
        for index in [index for index, at in enumerate(table.r_offset) if at in here]:
            for symbol in here[table.r_offset[index]]:
                found[symbol].append((index, table[index]))
    return found


def _read(elf: ElfFile, one: Trampoline, inside: Indexed) -> Prologue:
    if not 0 < one.section < len(elf.sections) or one.value % 4:
        raise _unknown(elf, one, "it lies at no instruction")
    distance = one.local_entry - one.value
    words = _words(elf, one)
    form = _form(words)
    if distance == 0 and form in (Form.NONE, Form.PACA):
        uses_toc = any(item.type in relocs.TOC_RELATIVE for _, item in inside)
        if form is Form.NONE and uses_toc:
            raise _unknown(elf, one, "it uses r2 and does not set it")
        return Prologue(form)
    if distance not in (0, SIZE) or form is Form.NONE:
        listed = " ".join(f"{word:08x}" for word in words)
        raise _unknown(elf, one, f"{distance} bytes between its entry points, {listed}")
    return _relocated(elf, one, form, [item for item in inside if item[1].r_offset < one.value + 8])


def _words(elf: ElfFile, one: Trampoline) -> tuple[int, int]:
    content = bytes(elf.content(one.section)[one.value : one.value + SIZE]).ljust(SIZE, b"\0")
    return VARIANT.word(content, 0), VARIANT.word(content, 4)


def _form(words: tuple[int, int]) -> Form:
    form = _FORMS.get(words[0] >> 16, Form.NONE)
    if form in _PAIRS:
        return form if words[1] >> 16 == _SECOND_ADDI else Form.NONE
    if form is Form.LOADED:
        return form if words[1] == _ADD else Form.NONE
    return form


def _relocated(elf: ElfFile, one: Trampoline, form: Form, on: Indexed) -> Prologue:
    """The prologue, where its relocations are those of its form."""
    found = [(item.r_offset - one.value, item.type, item.r_addend) for _, item in on]
    if form in _PAIRS:
        high, low = _PAIRS[form]
        step = 4 if form is Form.RELATIVE else 0
        good = sorted(found) == [(0, high, 0), (4, low, step)] and all(
            is_toc(elf, item.symbol) for _, item in on
        )
    elif form is Form.LOADED:
        good = [(at, kind) for at, kind, _ in found] in ([], [(0, relocs.R_PPC64_ENTRY)])
    else:
        good = not found
    if not good:
        raise _unknown(elf, one, f"its {form} has unknown relocations")
    return Prologue(form, tuple(index for index, _ in on))


def is_toc(elf: ElfFile, symbol: int) -> bool:
    """Whether a symbol is `.TOC.`, the TOC pointer of the unit."""
    return elf.symbols is not None and elf.symbols.name(symbol) == ".TOC."


def toc_symbol(elf: ElfFile) -> int | None:
    """The index of `.TOC.` in .symtab; None where the object does not name it."""
    symbols = elf.symbols
    assert symbols is not None, "an object with trampolines has symbols"
    found = [index for index in symbols.with_prefix(b".TOC.") if is_toc(elf, index)]
    return found[0] if found else None


def _unknown(elf: ElfFile, one: Trampoline, what: str) -> ScpatchError:
    return ScpatchError(
        "SCP227",
        f"the prologue is none that is known: {what}",
        file=elf.name,
        where=place(elf, one),
    )


def place(elf: ElfFile, one: Trampoline) -> str:
    """Where a trampoline lies, for a message: `.text+0x40 in __SCT__x`."""
    name = elf.section_name(one.section) if one.section < len(elf.sections) else str(one.section)
    return f"{name}+{one.value:#x} in {one.name}"
