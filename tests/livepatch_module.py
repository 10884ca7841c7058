"""A livepatch module: relocations that the kernel applies when it applies the livepatch."""

from __future__ import annotations

from tests.elfwriter import (
    BL,
    BLR,
    NOP,
    R_PPC64_ADDR64,
    R_PPC64_REL24,
    SHF_ALLOC,
    SHF_WRITE,
    SHT_RELA,
    STB_GLOBAL,
    Elf,
    Relocation,
    Section,
    Symbol,
    code_section,
    function,
    words,
)
from tests.relocated import ADDI, LD_LR, MFLR, MTLR, STD_LR, STDU

SHF_RELA_LIVEPATCH, SHN_LIVEPATCH = 0x00100000, 0xFF20
SCT, OTHER = ".klp.sym.vmlinux.__SCT__klp,0", ".klp.sym.ext4.helper,2"
HERE, BY_LIVEPATCH, BY_LOADER, PLAIN = 12, 20, 28, 36
"""Where the calls are: of a trampoline of the module, of one that only a livepatch finds, of the
kernel's, and of another function that only a livepatch finds."""
TEXT, RELA, DATA = 1, 2, 3


def rela(offset: int, symbol: int, kind: int = R_PPC64_REL24, addend: int = 0) -> bytes:
    numbers = offset, symbol << 32 | kind, addend
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def module(*extra: Section, tables: tuple[tuple[str, bytes], ...] | None = None) -> Elf:
    """`tables` are the livepatch tables of .text: name and content. Symbols 4 and 5 are those that
    a livepatch finds."""
    body = words(MFLR, STD_LR, STDU, *[BL, NOP] * 4, ADDI, LD_LR, MTLR, BLR)
    calls = {BY_LOADER: "__SCT__kernel", HERE: "__SCT__own"}
    text = code_section(
        body + words(BLR),
        *(Relocation(offset=at, type=R_PPC64_REL24, symbol=name) for at, name in calls.items()),
    )
    this = Section(name=".gnu.linkonce.this_module", flags=SHF_ALLOC | SHF_WRITE, data=bytes(8))
    if tables is None:
        tables = (
            (".klp.rela.vmlinux..text", rela(BY_LIVEPATCH, 4)),
            (".klp.rela.ext4..text", rela(PLAIN, 5)),
        )
    rela_sections = [table(name, content) for name, content in tables]
    return Elf(
        sections=[text, this, *rela_sections, *extra],
        symbols=[
            function("f", len(body)),
            function("__SCT__own", 4, value=len(body)),
            Symbol(name="__SCT__kernel", bind=STB_GLOBAL),
            Symbol(name=SCT, bind=STB_GLOBAL, st_shndx=SHN_LIVEPATCH),
            Symbol(name=OTHER, bind=STB_GLOBAL, st_shndx=SHN_LIVEPATCH),
        ],
    )


def table(name: str, content: bytes, target: int = TEXT) -> Section:
    return Section(
        name=name,
        type=SHT_RELA,
        flags=SHF_ALLOC | SHF_RELA_LIVEPATCH | 0x40,
        data=content,
        link=".symtab",
        info=target,
        entsize=24,
        addralign=8,
    )


POINTER = table(".klp.rela.vmlinux..data", rela(0, 4, R_PPC64_ADDR64), DATA)
