"""Objects before and after a rewrite, for the proof: assembled, described as data, changed.

`assemble` gives a description of an object (see `tests.elfwriter`) that GNU as wrote and pyelftools
read. `Change` says by hand what a rewrite would do to it, or what a broken one would; `apply` makes
the second description of it. Nothing of scpatch takes part.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from scpatch.verifier.proof import prove
from scpatch.verifier.types import Proof, SiteProof
from tests.bigendian import prove_both
from tests.elfwriter import (
    LD_R2,
    R_PPC64_REL24,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_WEAK,
    STD_R2,
    STT_FUNC,
    STT_SECTION,
    B,
    Elf,
    Number,
    Relocation,
    Section,
    Symbol,
    build,
    words,
)
from tests.tools import CROSS

STUB = "r2save.__SCT__x.0123456789ab"
THUNK = "r2thunk.__SCT__x.0123456789ab"

TRAMPOLINES = """
        .section .tramp, "ax"
        .globl __SCT__x
        .type __SCT__x, @function
__SCT__x: blr
        .size __SCT__x, 4
        .globl __SCT__y
        .type __SCT__y, @function
__SCT__y: blr
        .size __SCT__y, 4
"""


def function(body: str, *, name: str = "f") -> str:
    """A function in .text whose body is `body`; `.frame` and `.unframe` make and leave a frame."""
    frame = "mflr 0\n std 0, 16(1)\n stdu 1, -32(1)\n"
    leave = "addi 1, 1, 32\n ld 0, 16(1)\n mtlr 0\n blr\n"
    body = re.sub(r"^\s*\.frame$", frame, body, flags=re.MULTILINE)
    body = re.sub(r"^\s*\.unframe$", leave, body, flags=re.MULTILINE)
    return f"""
        .text
        .p2align 4
        .globl {name}
        .type {name}, @function
{name}:
        addis 2, 12, .TOC.-{name}@ha
        addi 2, 2, .TOC.-{name}@l
        .localentry {name}, .-{name}
{body}
        .size {name}, .-{name}
"""


def assemble(directory: Path, source: str) -> Elf:
    """The description of what GNU as makes of `source`."""
    path = directory / "assembled.o"
    text = ".abiversion 2\n.machine power9\n" + source
    command = [CROSS + "as", "-o", str(path), "-"]
    subprocess.run(command, input=text, text=True, check=True)
    return describe(path)


def describe(path: Path) -> Elf:
    """The description of an object, as pyelftools reads it; without its symbol and name tables."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        headers = list(elf.iter_sections())
        names = [section.name for section in headers]
        symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
        relocations = {s["sh_info"]: _relocations(s) for s in headers if s["sh_type"] == "SHT_RELA"}
        types = {"SHT_PROGBITS": SHT_PROGBITS, "SHT_NOBITS": SHT_NOBITS}
        sections = [
            Section(
                name=section.name,
                type=types[section["sh_type"]],
                flags=section["sh_flags"],
                data=section.data() if section["sh_type"] == "SHT_PROGBITS" else b"",
                size=section["sh_size"] if section["sh_type"] == "SHT_NOBITS" else 0,
                addralign=section["sh_addralign"],
                entsize=section["sh_entsize"],
                relocations=relocations.get(index),
            )
            for index, section in enumerate(headers)
            if section["sh_type"] in types
        ]
        return Elf(
            sections=sections, symbols=[_symbol(s, names) for s in symbols[1:]], tail_merge=False
        )


def _relocations(section: Any) -> list[Relocation]:
    return [
        Relocation(
            offset=entry["r_offset"],
            type=entry["r_info_type"],
            symbol=entry["r_info_sym"],
            addend=entry["r_addend"],
        )
        for entry in section.iter_relocations()
    ]


def _symbol(symbol: Any, names: Sequence[str]) -> Symbol:
    entry = symbol.entry
    kinds = {"STT_NOTYPE": 0, "STT_OBJECT": 1, "STT_FUNC": 2, "STT_SECTION": 3, "STT_FILE": 4}
    binds = {"STB_LOCAL": 0, "STB_GLOBAL": 1, "STB_WEAK": 2}
    visibility = {"STV_DEFAULT": 0, "STV_HIDDEN": 2}
    shndx = entry.st_shndx
    kind = kinds[entry.st_info.type]
    return Symbol(
        name="" if kind == STT_SECTION else symbol.name,
        value=entry.st_value,
        size=entry.st_size,
        type=kind,
        bind=binds[entry.st_info.bind],
        other=entry.st_other.local << 5 | visibility[entry.st_other.visibility],
        section=names[shndx] if isinstance(shndx, int) else None,
    )


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is done to one section: words replaced, relocations retargeted, things appended."""

    section: str = ".text"
    words: Mapping[int, int] = field(default_factory=dict)
    retarget: Mapping[int, Number] = field(default_factory=dict)
    addend: int = 0
    """Of the retargeted relocations."""
    append: bytes = b""
    relocations: Sequence[Relocation] = ()
    symbols: Sequence[Symbol] = ()


def apply(elf: Elf, *changes: Change) -> Elf:
    """The description of the object after `changes`."""
    for change in changes:
        sections = [_edit(s, change) if s.name == change.section else s for s in elf.sections]
        elf = replace(elf, sections=sections, symbols=[*elf.symbols, *change.symbols])
    return elf


def _edit(section: Section, change: Change) -> Section:
    data = bytearray(_bytes(section))
    for offset, word in change.words.items():
        data[offset : offset + 4] = words(word)
    relocations = [
        replace(r, symbol=change.retarget[r.offset], addend=change.addend)
        if r.offset in change.retarget and r.type == R_PPC64_REL24
        else r
        for r in section.relocations or ()
    ]
    # A section that has no table of relocations gets one only where there is something for it.
    table = [*relocations, *change.relocations] or section.relocations
    return replace(section, data=bytes(data) + change.append, relocations=table)


def _bytes(section: Section) -> bytes:
    assert isinstance(section.data, bytes)
    return section.data


def text(elf: Elf, name: str = ".text") -> bytes:
    """The bytes of a section."""
    return next(_bytes(s) for s in elf.sections if s.name == name)


def calls(elf: Elf, name: str = ".text") -> list[int]:
    """The section offsets of the branches to `__SCT__*` symbols, in order."""
    section = next(s for s in elf.sections if s.name == name)
    sites = []
    for relocation in section.relocations or ():
        assert isinstance(relocation.symbol, int)
        symbol = elf.symbols[relocation.symbol - 1]
        if symbol.name.startswith("__SCT__"):
            sites.append(relocation.offset)
    return sites


def stub_symbol(value: int, *, name: str = STUB, section: str = ".text", size: int = 8) -> Symbol:
    return Symbol(
        name=name,
        value=value,
        size=size,
        type=STT_FUNC,
        bind=STB_GLOBAL if name == THUNK else STB_WEAK,
        other=2,
        section=section,
    )


def with_stub(elf: Elf, sites: Sequence[int], *, trampoline: Number = "__SCT__x") -> Change:
    """A right change of .text: one stub, which the calls at `sites` go through."""
    start = len(text(elf))
    branch = Relocation(offset=start + 4, type=R_PPC64_REL24, symbol=trampoline)
    return Change(
        words={site + 4: LD_R2 for site in sites},
        retarget=dict.fromkeys(sites, STUB),
        append=words(STD_R2, B),
        relocations=[branch],
        symbols=[stub_symbol(start)],
    )


def with_thunk(elf: Elf, site: int) -> Change:
    """A right change of .text: the call at `site` branches to a thunk."""
    start = len(text(elf))
    back = B | ((site + 4 - (start + 12)) & 0x3FFFFFC)
    return Change(
        words={site: B},
        retarget={site: THUNK},
        append=words(STD_R2, 0x48000001, LD_R2, back),
        relocations=[Relocation(offset=start + 4, type=R_PPC64_REL24, symbol="__SCT__x")],
        symbols=[stub_symbol(start, name=THUNK, size=16)],
    )


def restored(sites: Sequence[int]) -> Change:
    """The change of calls whose function has saved r2: the nops become restores."""
    return Change(words={site + 4: LD_R2 for site in sites})


def prove_alone(directory: Path, before: bytes, after: bytes) -> Proof:
    """The proof for two objects given as bytes."""
    return prove(*_written(directory, before, after))


def _written(directory: Path, before: bytes, after: bytes) -> tuple[Path, Path]:
    old, new = directory / "before.o", directory / "after.o"
    old.write_bytes(before)
    new.write_bytes(after)
    return old, new


def prove_data(directory: Path, before: bytes, after: bytes) -> Proof:
    """The proof for two objects given as bytes, and for their big-endian twins."""
    return prove_both(*_written(directory, before, after))


def prove_change(directory: Path, before: Elf, *changes: Change) -> Proof:
    """The proof for a description and what `changes` make of it."""
    return prove_data(directory, build(before), build(apply(before, *changes)))


def states(sites: Sequence[SiteProof]) -> list[str]:
    return [site.state for site in sites]
