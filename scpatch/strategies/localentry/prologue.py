"""What a trampoline does at its global entry point to get its TOC pointer into r2.

A function with two entry points computes r2 from r12, which holds the address of the global one
(psABI 3.4.1). Compilers and hand-written code have three forms of it, of two instructions each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Relocation
from scpatch.errors import ScpatchError
from scpatch.ppc64 import relocs
from scpatch.sites.model import Trampoline

SIZE: Final = 8
"""Bytes of a prologue of any form, and so the offset of the local entry point after it."""


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

    Raises SCP227 for one that is not recognised.
    """
    order: dict[int, list[tuple[int, int]]] = {}
    prologues = {}
    for trampoline in trampolines:
        section, start = trampoline.entry_place
        table = elf.relocations(section) if section < len(elf.sections) else None
        if section not in order:
            offsets = table.r_offset if table is not None else ()
            order[section] = sorted((offset, index) for index, offset in enumerate(offsets))
        last = start + max(trampoline.size, SIZE)
        last = min(last, elf.sections[section].sh_size) if table is not None else last
        bounds = (bisect_left(order[section], (place,)) for place in (start, last))
        indices = sorted(index for _, index in order[section][slice(*bounds)])
        inside = [(index, table[index]) for index in indices] if table is not None else []
        prologues[trampoline.symbol] = _read(elf, trampoline, inside)
    return prologues


Indexed = Sequence[tuple[int, Relocation]]
"""Relocations with their indices in the section's table."""


def _read(elf: ElfFile, trampoline: Trampoline, inside: Indexed) -> Prologue:
    if not 0 < trampoline.section < len(elf.sections) or trampoline.value % 4:
        raise _unknown(elf, trampoline, "it is not at an instruction")
    distance = trampoline.local_entry - trampoline.value
    content = bytes(elf.content(trampoline.section)[trampoline.value :][:SIZE]).ljust(SIZE, b"\0")
    words = elf.encoding.word(content, 0), elf.encoding.word(content, 4)
    form = _form(words)
    if distance == 0 and form in (Form.NONE, Form.PACA):
        uses_toc = any(item.type in relocs.TOC_RELATIVE for _, item in inside)
        if form is Form.NONE and uses_toc:
            raise _unknown(elf, trampoline, "it uses r2 and does not set it")
        return Prologue(form)
    if distance not in (0, SIZE) or form is Form.NONE:
        listed = " ".join(f"{word:08x}" for word in words)
        raise _unknown(elf, trampoline, f"{distance} bytes between its entry points, {listed}")
    on = [item for item in inside if item[1].r_offset < trampoline.value + SIZE]
    return _relocated(elf, trampoline, form, on)


def _form(words: tuple[int, int]) -> Form:
    form = _FORMS.get(words[0] >> 16, Form.NONE)
    if form in _PAIRS:
        return form if words[1] >> 16 == _SECOND_ADDI else Form.NONE
    if form is Form.LOADED:
        return form if words[1] == _ADD else Form.NONE
    return form


def _relocated(elf: ElfFile, trampoline: Trampoline, form: Form, on: Indexed) -> Prologue:
    """The prologue, if its relocations are those of its form."""
    listed = [(item.r_offset - trampoline.value, item.type, item.r_addend) for _, item in on]
    if form in _PAIRS:
        # The distance counts from the first word, and the relocation from its own place.
        places = zip((elf.encoding.half, 4 + elf.encoding.half), _PAIRS[form], strict=True)
        relative = form is Form.RELATIVE
        wanted = [(at, kind, at if relative else 0) for at, kind in places]
        good = sorted(listed) == wanted and all(is_toc(elf, item.symbol) for _, item in on)
    elif form is Form.LOADED:
        good = [(at, kind) for at, kind, _ in listed] in ([], [(0, relocs.R_PPC64_ENTRY)])
    else:
        good = not listed
    if not good:
        raise _unknown(elf, trampoline, f"its {form} has unknown relocations")
    return Prologue(form, tuple(index for index, _ in on))


def is_toc(elf: ElfFile, symbol: int) -> bool:
    """Whether a symbol is `.TOC.`, the TOC pointer."""
    return elf.symbols is not None and elf.symbols.name(symbol) == ".TOC."


def toc_symbol(elf: ElfFile) -> int | None:
    """The index of `.TOC.` in .symtab; None if the object does not name it."""
    symbols = elf.symbols
    assert symbols is not None, "an object with trampolines has symbols"
    named = (index for index in symbols.with_prefix(b".TOC.") if is_toc(elf, index))
    return next(named, None)


def _unknown(elf: ElfFile, trampoline: Trampoline, what: str) -> ScpatchError:
    message = f"unrecognised prologue: {what}"
    return ScpatchError("SCP227", message, file=elf.name, where=place(elf, trampoline))


def place(elf: ElfFile, trampoline: Trampoline) -> str:
    """Where a trampoline is, for a message: `.text+0x40 in __SCT__x`."""
    section, start = trampoline.entry_place
    name = elf.section_name(section) if section < len(elf.sections) else str(section)
    return f"{name}+{start:#x} in {trampoline.name}"
