"""What the proof cannot judge: an object with relocations or code that it would not see.

An object with calls in a form that is not read here would look as if it had no calls, and would be
proven. So each section is either known to hold no relocations, or is read, or ends the proof. The
section types are those of the gABI, of GNU binutils and of LLVM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from scpatch.verifier.objects.read import (
    RELA_SIZE,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHN_LIVEPATCH,
    SHT_NOBITS,
    SHT_NULL,
    SHT_RELA,
    SHT_SYMTAB,
    Image,
    Section,
    UnreadableError,
    read,
)

_GCC_LTO = ".gnu.lto_"
_SHF_COMPRESSED = 0x800
_NONE_OF_THEM = {
    **dict.fromkeys((0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 14, 15, 16, 17, 18), "gABI"),
    **dict.fromkeys(range(0x6FFFFFF5, 0x6FFFFFF8), "GNU: attributes, hash table, library list"),
    **dict.fromkeys(range(0x6FFFFFFD, 0x70000000), "GNU: symbol versions"),
}
"""Section types that hold no relocations, or have no section in sh_info."""
_RELOCATIONS = {9: "SHT_REL", 19: "SHT_RELR", 0x40000014: "SHT_CREL"}
"""Types that hold relocations and are not read."""


def read_object(path: Path) -> Image:
    """Read an object; raises UnreadableError, also for what would go unseen in it, or OSError."""
    image = read(path)
    for fault in _faults(image):
        raise UnreadableError(fault)
    return image


def has_intermediate(image: Image) -> bool:
    """Whether an object also holds what a link with LTO would compile in its place."""
    return any(section.name.startswith((_GCC_LTO, ".llvm.lto")) for section in image.sections)


def _has_no_code(image: Image) -> bool:
    """Whether GCC has left the machine code, or a part of it, to the link: its symbol says so, and
    the fifth byte of struct lto_section (gcc/lto-streamer.h)."""
    lto = [section for section in image.sections if section.name.startswith(_GCC_LTO)]
    headers = (section for section in lto if section.name.startswith(_GCC_LTO + ".lto"))
    return any(image.content(header.number)[4:5] == b"\1" for header in headers) or (
        bool(lto) and any(symbol.name == "__gnu_lto_slim" for symbol in image.symbols)
    )


def _faults(image: Image) -> Iterator[str]:
    if not image.sections:
        yield "there is no section header table"
        return
    if _has_no_code(image):
        yield "GCC's intermediate code, not machine code yet"
    if image.data[56:58] != b"\0\0":
        yield "an object with program headers"
    if sum(section.type == SHT_SYMTAB for section in image.sections) > 1:
        yield "there are two symbol tables"
    for section in image.sections:
        if section.type == SHT_RELA:
            yield from _table(image, section)
        elif section.type not in _NONE_OF_THEM:
            yield from _unknown(image.sections, section)
    for section in image.code:
        if section.flags & _SHF_COMPRESSED and section.size:
            yield f"{section.name} is compressed code"
    for target, tables in image.rela_sections.items():
        if sum(not image.sections[table].is_livepatch for table in tables) > 1:
            yield f"{image.sections[target].name} has two tables of relocations"


def _matters(section: Section) -> bool:
    """Whether a section is loaded or run, so that its relocations are of interest."""
    return bool(section.flags & (SHF_ALLOC | SHF_EXECINSTR))


def _unknown(sections: Sequence[Section], section: Section) -> Iterator[str]:
    """A section whose content is, or may be, relocations of an unread form."""
    known = _RELOCATIONS.get(section.type)
    form = known or f"section type {section.type:#x}"
    if not section.size:
        return
    if 0 < section.info < len(sections):
        target = sections[section.info]
        if _matters(target):
            yield f"{section.name}: {target.name} has relocations of another form ({form})"
    elif known is not None:
        yield f"{section.name}: relocations ({form}) for a section that does not exist"


def _table(image: Image, section: Section) -> Iterator[str]:
    if section.info >= len(image.sections) or (section.size and not section.info):
        yield f"{section.name}: relocations for a section that does not exist"
        return
    target = image.sections[section.info]
    if not section.size or not _matters(target):
        return
    if section.entry_size != RELA_SIZE or section.flags & _SHF_COMPRESSED:
        yield f"{section.name}: relocations of an unknown size"
    elif not image.symtab or section.link != image.symtab:
        yield f"{section.name}: relocations that name another symbol table"
    elif target.flags & SHF_EXECINSTR and target.type in (SHT_NULL, SHT_NOBITS):
        yield f"{target.name}: its code is not in this file"
    elif section.is_livepatch:
        for rela in image.relas(section.number):
            if image.symbols[rela.symbol].shndx != SHN_LIVEPATCH:
                yield f"{section.name}: a livepatch relocation names another kind of symbol"
