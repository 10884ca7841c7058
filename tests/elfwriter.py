"""Builds ELF files from a description: any file that a test needs, also a broken one.

Nothing here is shared with the package under test. A description is plain data: an `Elf` holds
`Section`s, `Symbol`s and, with each section, its `Relocation`s; `build` turns it into bytes and
`write` streams it to a file. Without overrides the result is a valid file that readelf, ld and
objcopy take without a warning. With `Elf.header` and `Elf.section_headers` any field of the file
header and of any section header can be made to lie; the contents stay where a correct file has
them.

    call = Relocation(offset=0, type=R_PPC64_REL24, symbol="__SCT__x")
    text = Section(name=".text", flags=SHF_ALLOC | SHF_EXECINSTR, addralign=4,
                   data=words(0x48000001, NOP), relocations=[call])
    data = build(Elf(sections=[text], symbols=[Symbol(name="__SCT__x", bind=STB_GLOBAL)]))

Layout: file header; the sections in the order given, each followed by its .rela; .symtab;
.symtab_shndx where needed; .strtab; .shstrtab unless shared; the section headers; the trailer.
"""

import io
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal, TypeAlias

ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
EM_386, EM_PPC, EM_PPC64, EM_X86_64 = 3, 20, 21, 62
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA = 0, 1, 2, 3, 4
SHT_NOTE, SHT_NOBITS, SHT_GROUP, SHT_SYMTAB_SHNDX = 7, 8, 17, 18
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS, SHF_INFO_LINK = 1, 2, 4, 16, 32, 64
SHF_GROUP, GRP_COMDAT = 0x200, 1
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE = 0, 1, 2, 3, 4
STV_DEFAULT, STV_HIDDEN = 0, 2
R_PPC64_ADDR32, R_PPC64_REL24, R_PPC64_REL14, R_PPC64_REL32 = 1, 10, 11, 26
R_PPC64_ADDR64, R_PPC64_REL64, R_PPC64_TOC16_LO, R_PPC64_TOC16_HA = 38, 44, 48, 50
R_PPC64_TOCSAVE, R_PPC64_REL24_NOTOC, R_PPC64_REL24_P9NOTOC = 109, 116, 124
R_PPC64_REL16_LO, R_PPC64_REL16_HA = 250, 252
BL, B, NOP, BLR = 0x48000001, 0x48000000, 0x60000000, 0x4E800020
STD_R2, LD_R2 = 0xF8410018, 0xE8410018  # std r2,24(r1) and ld r2,24(r1)

Number: TypeAlias = str | int  # a symbol or section: by its name, or by its number in the file
ByteOrder: TypeAlias = Literal["little", "big"]

_EHDR = (
    *("e_type", "e_machine", "e_version", "e_entry", "e_phoff", "e_shoff", "e_flags"),
    *("e_ehsize", "e_phentsize", "e_phnum", "e_shentsize", "e_shnum", "e_shstrndx"),
)
_FORMATS = {
    64: {"ehdr": "16sHHIQQQIHHHHHH", "shdr": "IIQQQQIIQQ", "sym": "IBBHQQ", "rela": "QQq"},
    32: {"ehdr": "16sHHIIIIIHHHHHH", "shdr": "10I", "sym": "IIIBBH", "rela": "IIi"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Contents too big to hold in memory: each call of `chunks` yields `size` bytes in all."""

    size: int
    chunks: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """An entry of a SHT_RELA section. A nameless section symbol goes by the section's name."""

    offset: int
    type: int
    symbol: Number = 0
    addend: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section; giving `relocations`, be it an empty list, puts a SHT_RELA section after it.

    `size` is sh_size where there are no bytes to count (SHT_NOBITS).
    """

    name: str
    type: int = SHT_PROGBITS
    flags: int = 0
    addr: int = 0
    data: bytes | Stream = b""
    size: int = 0
    link: Number = 0
    info: Number = 0
    addralign: int = 1
    entsize: int = 0
    relocations: Sequence[Relocation] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A symbol; `section` is None where it is undefined, else a name, or a number of the file.

    `st_shndx` is written as it is, for the reserved values (SHN_ABS, SHN_COMMON) and wrong ones.
    """

    name: str = ""
    value: int = 0
    size: int = 0
    type: int = STT_NOTYPE
    bind: int = STB_LOCAL
    other: int = 0
    section: Number | None = None
    st_shndx: int | None = None


def code_section(data: bytes, *relocations: Relocation, name: str = ".text") -> Section:
    """An executable section, with its relocations."""
    flags = SHF_ALLOC | SHF_EXECINSTR
    return Section(name=name, flags=flags, addralign=16, data=data, relocations=relocations)


def function(name: str, size: int, *, section: str = ".text", value: int = 0) -> Symbol:
    """The global symbol of a function."""
    return Symbol(
        name=name, value=value, size=size, type=STT_FUNC, bind=STB_GLOBAL, section=section
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """A whole file. The writer adds symbol 0 and section 0; local symbols come before the others.

    `extended` uses the numbering for more than 65,279 sections (e_shnum 0, SHN_XINDEX) in a small
    file too. `header` overrides fields of the file header, `section_headers` those of sections, by
    name (all of that name) or number. `trailer` follows the end of the ELF file.
    """

    sections: Sequence[Section] = ()
    symbols: Sequence[Symbol] = ()
    type: int = ET_REL
    machine: int = EM_PPC64
    flags: int = 2
    bits: Literal[32, 64] = 64
    byteorder: ByteOrder = "little"
    shared_strtab: bool = False
    tail_merge: bool = True
    extended: bool = False
    ident: bytes | None = None
    header: Mapping[str, int] = field(default_factory=dict)
    section_headers: Mapping[Number, Mapping[str, int]] = field(default_factory=dict)
    trailer: bytes = b""


def words(*values: int, byteorder: ByteOrder = "little") -> bytes:
    """The instruction words one after the other."""
    return b"".join(value.to_bytes(4, byteorder) for value in values)


def build(elf: Elf) -> bytes:
    """The file's bytes.

    Raises ValueError for a name that is missing or not unique, a local symbol after a global one,
    or a stream of another size than it said; struct.error for a value that does not fit its field.
    """
    out = io.BytesIO()
    write(elf, out)
    return out.getvalue()


def write(elf: Elf, out: BinaryIO) -> None:
    """Writes the file, holding no more of a `Stream` than one chunk. Errors as for `build`."""
    sections, names = _complete(elf)
    offsets, end = _layout(elf, sections)
    e_shoff = _align(end, elf.bits // 8)
    out.write(_file_header(elf, e_shoff, sections))
    position = struct.calcsize(_format(elf, "ehdr"))
    for section, offset in zip(sections, offsets, strict=True):
        if section.type not in (SHT_NULL, SHT_NOBITS):
            out.write(bytes(offset - position))
            position = offset + _copy(section, out)
    out.write(bytes(e_shoff - position))
    for number, (section, offset) in enumerate(zip(sections, offsets, strict=True)):
        out.write(_section_header(elf, number, section, offset, names[section.name]))
    out.write(elf.trailer)


def section_numbers(elf: Elf) -> list[int]:
    """The number in the file of each entry of `elf.sections`."""
    numbers, number = [], 1
    for section in elf.sections:
        numbers.append(number)
        number += 1 if section.relocations is None else 2
    return numbers


def string_table(strings: Iterable[str], *, tail_merge: bool) -> tuple[bytes, dict[str, int]]:
    """The bytes of a SHT_STRTAB section, and the offset of each string.

    With `tail_merge` a string that is the end of another one is stored inside that, as ld does it.
    """
    unique = dict.fromkeys(text.encode("utf-8", "surrogateescape") for text in strings if text)
    # Sorted backwards from the end, a string comes right after those that end with it.
    order = (
        sorted(unique, key=lambda text: text[::-1], reverse=True) if tail_merge else list(unique)
    )
    table, offsets, previous = bytearray(1), {"": 0}, b""
    for text in order:
        if tail_merge and previous.endswith(text):
            offsets[text.decode("utf-8", "surrogateescape")] = len(table) - 1 - len(text)
        else:
            offsets[text.decode("utf-8", "surrogateescape")] = len(table)
            table += text + b"\0"
            previous = text
    return bytes(table), offsets


class _Numbers:
    """Finds the number that belongs to a name, and refuses a name that does not tell."""

    def __init__(self, kind: str, names: Iterable[str]) -> None:
        self.kind = kind
        self.numbers: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            self.numbers.setdefault(name, []).append(number)

    def find(self, key: Number) -> int:
        if isinstance(key, int):
            return key
        numbers = self.numbers.get(key, [])
        if len(numbers) != 1:
            raise ValueError(f"{len(numbers)} {self.kind}s are named {key!r}")
        return numbers[0]


def _complete(elf: Elf) -> tuple[list[Section], dict[str, int]]:
    """All sections with numbers for names, section 0 first, and where their names lie."""
    numbers = section_numbers(elf)
    needs_shndx = elf.extended or numbers[-1:] >= [SHN_LORESERVE]
    tables = [".symtab", *([".symtab_shndx"] if needs_shndx else []), ".strtab"]
    tables += [] if elf.shared_strtab else [".shstrtab"]
    given = [name for section in elf.sections for name in _names(section)]
    section_names = ["", *given, *tables]
    find_section = _Numbers("section", section_names)
    find_symbol = _Numbers("symbol", ["", *map(_symbol_key, elf.symbols)])

    symbol_names = [symbol.name for symbol in elf.symbols]
    shared = section_names if elf.shared_strtab else []
    strtab, symbol_offsets = string_table([*symbol_names, *shared], tail_merge=elf.tail_merge)
    shstrtab, section_offsets = string_table(section_names, tail_merge=elf.tail_merge)

    sections = [Section(name="", type=SHT_NULL, addralign=0)]
    for section in elf.sections:
        sections += _with_relocations(elf, section, len(sections), find_section, find_symbol)
    sections += _symbol_tables(elf, find_section, symbol_offsets, needs_shndx)
    sections.append(Section(name=".strtab", type=SHT_STRTAB, data=strtab))
    if not elf.shared_strtab:
        sections.append(Section(name=".shstrtab", type=SHT_STRTAB, data=shstrtab))
    if _numbered_apart(elf, len(sections)):
        sections[0] = replace(sections[0], size=len(sections), link=len(sections) - 1)
    return sections, symbol_offsets if elf.shared_strtab else section_offsets


def _numbered_apart(elf: Elf, count: int) -> bool:
    # Too many sections for e_shnum: the number stands in section header 0.
    return elf.extended or count >= SHN_LORESERVE


def _names(section: Section) -> list[str]:
    return [section.name] + ([] if section.relocations is None else [".rela" + section.name])


def _symbol_key(symbol: Symbol) -> str:
    by_section = symbol.type == STT_SECTION and not symbol.name and isinstance(symbol.section, str)
    return str(symbol.section) if by_section else symbol.name


def _with_relocations(
    elf: Elf, section: Section, number: int, find_section: _Numbers, find_symbol: _Numbers
) -> list[Section]:
    # The sh_info of a group is its signature, a symbol; anywhere else a name means a section.
    find_info = find_symbol if section.type == SHT_GROUP else find_section
    link, info = find_section.find(section.link), find_info.find(section.info)
    numbered = replace(section, link=link, info=info)
    if section.relocations is None:
        return [numbered]
    form, shift = struct.Struct(_format(elf, "rela")), 32 if elf.bits == 64 else 8
    rela = Section(
        name=".rela" + section.name,
        type=SHT_RELA,
        flags=SHF_INFO_LINK,
        data=b"".join(
            form.pack(r.offset, find_symbol.find(r.symbol) << shift | r.type, r.addend)
            for r in section.relocations
        ),
        link=find_section.find(".symtab"),
        info=number,
        addralign=elf.bits // 8,
        entsize=form.size,
    )
    return [numbered, rela]


def _symbol_tables(
    elf: Elf, find_section: _Numbers, names: Mapping[str, int], needs_shndx: bool
) -> list[Section]:
    """The .symtab and, where section numbers do not fit st_shndx, the .symtab_shndx."""
    form = struct.Struct(_format(elf, "sym"))
    entries, numbers = [bytes(form.size)], [0]
    for symbol in elf.symbols:
        number = 0 if symbol.section is None else find_section.find(symbol.section)
        extended = number >= SHN_LORESERVE or (elf.extended and number > 0)
        numbers.append(number if extended else 0)
        default = SHN_XINDEX if extended else number
        shndx = default if symbol.st_shndx is None else symbol.st_shndx
        kind = (symbol.bind << 4 | symbol.type, symbol.other, shndx)
        where = (symbol.value, symbol.size)
        fields = (*kind, *where) if elf.bits == 64 else (*where, *kind)
        entries.append(form.pack(names[symbol.name], *fields))
    symtab = Section(
        name=".symtab",
        type=SHT_SYMTAB,
        data=b"".join(entries),
        link=find_section.find(".strtab"),
        info=_first_global(elf.symbols),
        addralign=elf.bits // 8,
        entsize=form.size,
    )
    shndx_table = Section(
        name=".symtab_shndx",
        type=SHT_SYMTAB_SHNDX,
        data=b"".join(number.to_bytes(4, elf.byteorder) for number in numbers),
        link=find_section.find(".symtab"),
        addralign=4,
        entsize=4,
    )
    return [symtab, shndx_table] if needs_shndx else [symtab]


def _first_global(symbols: Sequence[Symbol]) -> int:
    locals_ = [symbol.bind == STB_LOCAL for symbol in symbols]
    first = locals_.index(False) if False in locals_ else len(locals_)
    if any(locals_[first:]):
        raise ValueError("a local symbol follows a global symbol, which sh_info of .symtab forbids")
    return first + 1


def _layout(elf: Elf, sections: Sequence[Section]) -> tuple[list[int], int]:
    """The file offset of each section, and of the end of the last."""
    end = struct.calcsize(_format(elf, "ehdr"))
    offsets = [0]
    for section in sections[1:]:
        offset = _align(end, section.addralign)
        offsets.append(offset)
        end = end if section.type == SHT_NOBITS else offset + _length(section)
    return offsets, end


def _length(section: Section) -> int:
    return section.data.size if isinstance(section.data, Stream) else len(section.data)


def _copy(section: Section, out: BinaryIO) -> int:
    if isinstance(section.data, bytes):
        return out.write(section.data)
    written = sum(out.write(chunk) for chunk in section.data.chunks())
    if written != section.data.size:
        raise ValueError(f"{section.name}: {written} bytes came, {section.data.size} were said")
    return written


def _file_header(elf: Elf, e_shoff: int, sections: Sequence[Section]) -> bytes:
    count = len(sections)
    many = _numbered_apart(elf, count)
    ident = bytes([0x7F, *b"ELF", elf.bits // 32, 1 if elf.byteorder == "little" else 2, 1])
    values = dict.fromkeys(_EHDR, 0) | {
        "e_type": elf.type,
        "e_machine": elf.machine,
        "e_version": 1,
        "e_shoff": e_shoff,
        "e_flags": elf.flags,
        "e_ehsize": struct.calcsize(_format(elf, "ehdr")),
        "e_shentsize": struct.calcsize(_format(elf, "shdr")),
        "e_shnum": 0 if many else count,
        "e_shstrndx": SHN_XINDEX if many else count - 1,
    }
    ident = elf.ident or ident.ljust(16, b"\0")
    return struct.pack(_format(elf, "ehdr"), ident, *_override(values, elf.header).values())


def _section_header(elf: Elf, number: int, section: Section, offset: int, name: int) -> bytes:
    values = {
        "sh_name": name,
        "sh_type": section.type,
        "sh_flags": section.flags,
        "sh_addr": section.addr,
        "sh_offset": offset,
        "sh_size": _length(section) or section.size,
        "sh_link": int(section.link),
        "sh_info": int(section.info),
        "sh_addralign": section.addralign,
        "sh_entsize": section.entsize,
    }
    for key in (section.name, number):
        values = _override(values, elf.section_headers.get(key, {}))
    return struct.pack(_format(elf, "shdr"), *values.values())


def _override(values: dict[str, int], overrides: Mapping[str, int]) -> dict[str, int]:
    if unknown := overrides.keys() - values.keys():
        raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
    return values | dict(overrides)


def _format(elf: Elf, kind: str) -> str:
    return ("<" if elf.byteorder == "little" else ">") + _FORMATS[elf.bits][kind]


def _align(offset: int, alignment: int) -> int:
    return -(-offset // max(alignment, 1)) * max(alignment, 1)
