"""Objects with a call of `__SCT__x` whose relocations, or whose code, are in an unusual form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.elfwriter import (
    BL,
    BLR,
    NOP,
    R_PPC64_REL24,
    SHF_ALLOC,
    SHT_NOBITS,
    STB_GLOBAL,
    Elf,
    Relocation,
    Section,
    Symbol,
    build,
    code_section,
    function,
    words,
)

MFLR, STD_LR, STDU = 0x7C0802A6, 0xF8010010, 0xF821FFE1
ADDI, LD_LR, MTLR = 0x38210020, 0xE8010010, 0x7C0803A6
CODE = words(MFLR, STD_LR, STDU, BL, NOP, ADDI, LD_LR, MTLR, BLR)
CALL = 12

TEXT, RELA = 1, 2
"""Section indices."""


def call(**header: int) -> Elf:
    """A function with one call; `header` overrides fields in the header of `.rela.text`."""
    relocation = Relocation(offset=CALL, type=R_PPC64_REL24, symbol="__SCT__x")
    symbols = [function("f", len(CODE)), Symbol(name="__SCT__x", bind=STB_GLOBAL)]
    sections = [code_section(CODE, relocation)]
    return Elf(sections=sections, symbols=symbols, section_headers={".rela.text": header})


def _text(**fields: object) -> Elf:
    elf = call()
    (text,) = elf.sections
    return replace(elf, sections=[replace(text, **fields)])  # type: ignore[arg-type]


def _beside(kind: int, info: int) -> Elf:
    """The object with one more section, of 8 bytes, that may be relocations of section `info`."""
    elf = call()
    other = Section(name=".other", type=kind, data=bytes(8), info=info)
    return replace(elf, sections=[*elf.sections, other])


def crel() -> Elf:
    """The same relocation in the form of clang 19: the count, with 4 for "has addends"; then, for
    each, the offset's difference with 3 for "symbol and type follow"; all of it LEB128."""
    table = bytes((1 << 3 | 4, CALL << 3 | 3, 2, R_PPC64_REL24))
    elf = call()
    (text,) = elf.sections
    other = Section(
        name=".crel.text", type=0x40000014, data=table, link=".symtab", info=TEXT, entsize=1
    )
    return replace(elf, sections=[replace(text, relocations=None), other])


UNREAD: Mapping[str, tuple[Elf, str, str]] = {
    "crel": (crel(), "SCP116", "SHT_CREL"),
    "rel": (call(sh_type=9, sh_entsize=16), "SCP116", "SHT_REL"),
    "android": (call(sh_type=0x60000002), "SCP116", "SHT_ANDROID_RELA"),
    "secondary": (call(sh_type=0x60000004), "SCP116", "SHT_SECONDARY_RELOC"),
    "unknown": (call(sh_type=0x60000123), "SCP116", "0x60000123"),
    "processor": (call(sh_type=0x70000001), "SCP116", "0x70000001"),
    "beside": (_beside(9, TEXT), "SCP116", "SHT_REL"),
    "relr": (_beside(19, 0), "SCP116", "SHT_RELR"),
    "compressed": (call(sh_flags=0x840), "SCP116", "compressed"),
    "no-section": (call(sh_info=0), "SCP116", "sh_info is 0"),
    "past": (call(sh_info=99), "SCP107", "names section 99"),
    "no-code": (_text(type=SHT_NOBITS, data=b"", size=len(CODE)), "SCP118", "not in this file"),
    "not-executable": (_text(flags=SHF_ALLOC), "SCP121", "not executable"),
    "phdrs": (replace(call(), header={"e_phoff": 64, "e_phnum": 1}), "SCP117", "program headers"),
}
"""An object, the code of its refusal, and a word of the message."""

READ: Mapping[str, Elf] = {
    "rela": call(),
    # LLVM: the sh_info of these is 0, or names no section in memory.
    "address-significance": _beside(0x6FFF4C03, 0),
    "call-graph-profile": replace(
        (called := call()),
        sections=[
            *called.sections,
            Section(name=".llvm.call-graph-profile", type=0x6FFF4C09, flags=0x80000000),
            Section(name=".rel", type=9, data=bytes(16), link=".symtab", info=3, entsize=16),
        ],
    ),
    "note": _text(type=7),
    "init-array": _text(type=14),
    "other-type": _text(type=0x6FFF4C55),
}
"""Objects whose call scpatch finds."""


def data(elf: Elf) -> bytes:
    return build(elf)
