"""Reads an ELF64 relocatable object for the proof.

This reader shares nothing with `scpatch.elf`. It takes the tables as the gABI lays them out, record
by record with `struct`; `second_opinion` has a library read the same file and compares section by
section and symbol by symbol, so that an error here is noticed. Relocations are read here
alone: LIEF has no name for R_PPC64_REL24_NOTOC and R_PPC64_REL24_P9NOTOC.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import starmap
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, cast

from scpatch.verifier.objects.variant import MACHINE, Variant, variant_of

ET_EXEC, ET_DYN = 2, 3
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS = 0, 1, 2, 3, 4, 8
SHT_SYMTAB_SHNDX = 18
SHF_ALLOC, SHF_EXECINSTR, SHF_GROUP = 2, 4, 0x200
SHF_RELA_LIVEPATCH = 0x00100000
SHN_LORESERVE, SHN_LIVEPATCH, SHN_XINDEX = 0xFF00, 0xFF20, 0xFFFF
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_FUNC, STT_SECTION, STT_FILE = 0, 2, 3, 4
EHDR_SIZE, SHDR_SIZE, SYM_SIZE, RELA_SIZE = 64, 64, 24, 24

_FILE_TABLES = frozenset((SHT_SYMTAB, SHT_STRTAB, SHT_RELA, 9, 17, SHT_SYMTAB_SHNDX))
"""Types that no linker takes for content, whatever their flags; 9 and 17: SHT_REL, SHT_GROUP."""

BITCODE = b"BC\xc0\xde", b"\xde\xc0\x17\x0b"
ARCHIVES = b"!<arch>\n", b"!<thin>\n"

_EHDR = "16xHH20xQI"
"""e_type, e_machine, e_shoff and e_flags."""
_SHDR = "IIQQQQIIQQ"
_SYM = "IBBHQQ"
_ABI, _ELFV1 = 3, 1
"""The bits of e_flags that hold the ABI version; 0 says nothing."""


class UnreadableError(Exception):
    """The file is no object that the proof can judge; the text says why."""


class Section(NamedTuple):
    """A section header. `offset` is a file offset, `size` is in bytes, `address` 0 in objects."""

    number: int
    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def has_bytes(self) -> bool:
        """Whether `offset` and `size` say where bytes are; in section header 0 they are counts."""
        return self.type not in (SHT_NULL, SHT_NOBITS)

    @property
    def is_executable(self) -> bool:
        """Whether it is marked for instructions, and is not a table of the file format."""
        return bool(self.flags & SHF_EXECINSTR) and self.type not in _FILE_TABLES

    @property
    def is_livepatch(self) -> bool:
        """Whether it holds relocations that the kernel applies when it applies a livepatch
        (Linux, Documentation/livepatch/module-elf-format.rst)."""
        return self.type == SHT_RELA and bool(self.flags & SHF_RELA_LIVEPATCH)


class Symbol(NamedTuple):
    """A symbol. `value` is a section offset; `section` has SHN_XINDEX resolved (0: undefined, also
    for what a livepatch is to find; negative: in no section). `shndx` is st_shndx."""

    number: int
    name: str
    name_offset: int
    info: int
    other: int
    section: int
    value: int
    size: int
    shndx: int = 0

    @property
    def binding(self) -> int:
        return self.info >> 4

    @property
    def type(self) -> int:
        return self.info & 15


_as_symbol = cast("Callable[[tuple[object, ...]], Symbol]", partial(tuple.__new__, Symbol))


class Rela(NamedTuple):
    """A relocation. `offset` is the section offset that it applies to."""

    offset: int
    type: int
    symbol: int
    addend: int


_as_rela = cast("Callable[[tuple[int, ...]], Rela]", partial(tuple.__new__, Rela))
"""`Rela._make` at the speed of `tuple`: a large object has hundreds of thousands of relocations."""
offset_of, type_of, _symbol_of = map(itemgetter, range(3))
named_by: Callable[[Rela], tuple[int, int]] = itemgetter(2, 3)
"""The symbol and the addend, which many relocations share."""


class Place(NamedTuple):
    """A section offset."""

    section: int
    offset: int

    def after(self, size: int) -> Place:
        """The place `size` bytes further on."""
        return as_place((self.section, self.offset + size))


as_place = cast("Callable[[tuple[int, int]], Place]", partial(tuple.__new__, Place))


@dataclass(frozen=True, eq=False)
class Image:
    """One object file, mapped into memory. Compared by identity."""

    path: Path
    variant: Variant
    data: mmap.mmap | bytes
    shoff: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    symtab: int
    """Section index of .symtab; 0 where the file has none."""
    shndx: int
    """Section index of .symtab_shndx; 0 where the file has none."""
    shstrndx: int
    """Section index of the section names (SHN_XINDEX resolved)."""
    _relas: dict[int, list[Rela]] = field(default_factory=dict, repr=False)

    @property
    def extended(self) -> bool:
        """Whether section header 0 holds the number of sections (gABI, e_shnum)."""
        return self.data[60:62] == b"\0\0"

    def content(self, section: int) -> bytes:
        """The bytes of a section; none for SHT_NULL and SHT_NOBITS."""
        header = self.sections[section]
        if not header.has_bytes:
            return b""
        return self.data[header.offset : header.offset + header.size]

    def relas(self, section: int) -> list[Rela]:
        """The relocations of a SHT_RELA section, in the order of the table."""
        if section not in self._relas:
            if self.sections[section].size % RELA_SIZE:
                raise UnreadableError(f"{self.sections[section].name} ends within a relocation")
            relas = list(map(_as_rela, self.variant.relocations(self.content(section))))
            if max(map(_symbol_of, relas), default=-1) >= max(len(self.symbols), 1):
                raise UnreadableError(
                    f"{self.sections[section].name}: a relocation names no symbol"
                )
            self._relas[section] = relas
        return self._relas[section]

    @cached_property
    def rela_sections(self) -> dict[int, list[int]]:
        """For each section the indices of the SHT_RELA sections that apply to it."""
        tables: dict[int, list[int]] = {}
        for section in self.sections:
            if section.type == SHT_RELA:
                tables.setdefault(section.info, []).append(section.number)
        return tables

    def relocations(self, section: int) -> Sequence[Rela]:
        """The relocations that apply to a section."""
        tables = self.rela_sections.get(section, ())
        if len(tables) == 1:
            return self.relas(tables[0])
        return [rela for table in tables for rela in self.relas(table)]

    @cached_property
    def code(self) -> tuple[Section, ...]:
        """The sections that hold instructions, whatever their type, but for the file's tables."""
        return tuple(s for s in self.sections if s.has_bytes and s.is_executable)

    @property
    def words(self) -> Iterator[int]:
        """All words of the code."""
        for section in self.code:
            code = self.content(section.number)
            yield from self.variant.numbers("I", code[: len(code) & ~3])

    @cached_property
    def functions(self) -> dict[int, list[Symbol]]:
        """For each section its STT_FUNC symbols in the order of their values; none reaches past
        the section's end, whatever its st_size says."""
        by_section: dict[int, list[Symbol]] = {}
        for symbol in self.symbols:
            if symbol.type == STT_FUNC and 0 < symbol.section < len(self.sections):
                rest = max(self.sections[symbol.section].size - symbol.value, 0)
                inside = symbol if symbol.size <= rest else symbol._replace(size=rest)
                by_section.setdefault(symbol.section, []).append(inside)
        for functions in by_section.values():
            functions.sort(key=lambda symbol: (symbol.value, symbol.size))
        return by_section

    def function_at(self, place: Place) -> Symbol | None:
        """The innermost function symbol whose range holds `place`."""
        functions = self.functions.get(place.section, [])
        at = bisect_right(functions, place.offset, key=lambda symbol: symbol.value)
        for symbol in reversed(functions[max(0, at - 64) : at]):
            if place.offset < symbol.value + symbol.size:
                return symbol
        return None

    def where(self, place: Place) -> str:
        """`place` for a message: `.text+0x1a0 in tcp_sendmsg`."""
        text = f"{self.sections[place.section].name}+{place.offset:#x}"
        function = self.function_at(place)
        return f"{text} in {function.name}" if function is not None else text

    def target(self, rela: Rela) -> Place | None:
        """The place that a relocation's symbol + addend is, if the object defines it."""
        return self.place_of(rela.symbol, rela.addend)

    def place_of(self, number: int, addend: int) -> Place | None:
        """The place that a symbol's value + addend is, if the object defines it."""
        symbol = self.symbols[number]
        if not 0 < symbol.section < len(self.sections):
            return None
        return as_place((symbol.section, symbol.value + addend))

    def places_of(self, relas: Iterable[Rela]) -> Iterator[Place]:
        """The places that relocations lead to, each at least once, if the object defines it."""
        places = starmap(self.place_of, set(map(named_by, relas)))
        return (place for place in places if place is not None)


def is_linked(path: Path) -> bool:
    """Whether a file is a linked image. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(18)
    variant = variant_of(head)
    return variant is not None and variant.number(head[16:18]) in (ET_EXEC, ET_DYN)


def read(path: Path, kinds: Collection[int] = (1,)) -> Image:
    """Read the tables of the file at `path`, an object or what `kinds` (e_type) says; raises
    UnreadableError or OSError."""
    with path.open("rb") as file:
        empty = file.seek(0, 2) == 0
        data = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if data[:4] in BITCODE:
        raise UnreadableError("LLVM bitcode, not machine code yet")
    if data[:8] in ARCHIVES:
        raise UnreadableError("an archive inside an archive")
    variant = variant_of(data[:7])
    if variant is None or len(data) < EHDR_SIZE:
        raise UnreadableError("not an ELF64 file")
    kind, machine, shoff, flags = variant.struct(_EHDR).unpack_from(data)
    what = "relocatable object" if 1 in kinds else "linked image"
    if kind not in kinds or machine != MACHINE or flags & _ABI == _ELFV1:
        raise UnreadableError(f"not a ppc64 ELFv2 {what}")
    sections, names = _read_sections(data, variant, shoff)
    if not flags & _ABI and any(section.name == ".opd" for section in sections):
        raise UnreadableError(f"not a ppc64 ELFv2 {what}: it has function descriptors (.opd)")
    symtab = next((s.number for s in sections if s.type == SHT_SYMTAB), 0)
    shndx = next((s.number for s in sections if s.type == SHT_SYMTAB_SHNDX and s.link == symtab), 0)
    symbols = _read_symbols(data, variant, sections, symtab, shndx) if symtab else ()
    return Image(path, variant, data, shoff, sections, symbols, symtab, shndx, names)


def _read_sections(
    data: mmap.mmap | bytes, variant: Variant, shoff: int
) -> tuple[tuple[Section, ...], int]:
    """Section headers, and which of them is that of the names; past SHN_LORESERVE the true counts
    are in header 0 (gABI, e_shnum)."""
    entsize, count, names = variant.struct("HHH").unpack_from(data, 58)
    if shoff == 0:
        return (), 0
    if entsize != SHDR_SIZE or shoff + SHDR_SIZE > len(data):
        raise UnreadableError("the section header table is not inside the file")
    header = variant.struct(_SHDR)
    zero = header.unpack_from(data, shoff)
    count = count or zero[5]
    names = zero[6] if names == SHN_XINDEX else names
    if shoff + count * SHDR_SIZE > len(data):
        raise UnreadableError("the section header table is not inside the file")
    raw = [header.unpack_from(data, shoff + index * SHDR_SIZE) for index in range(count)]
    for index, fields in enumerate(raw):
        if fields[1] not in (SHT_NULL, SHT_NOBITS) and fields[4] + fields[5] > len(data):
            raise UnreadableError(f"section {index} is not inside the file")
    if names >= count:
        raise UnreadableError("the section name table is not among the sections")
    table = data[raw[names][4] : raw[names][4] + raw[names][5]]
    return tuple(Section(i, _name(table, f[0]), *f[1:]) for i, f in enumerate(raw)), names


def _read_symbols(
    data: mmap.mmap | bytes,
    variant: Variant,
    sections: tuple[Section, ...],
    symtab: int,
    shndx: int,
) -> tuple[Symbol, ...]:
    table = sections[symtab]
    if table.size % SYM_SIZE or table.link >= len(sections):
        raise UnreadableError("the symbol table is damaged")
    strings = sections[table.link]
    names = data[strings.offset : strings.offset + strings.size]
    wide = sections[shndx]
    count = table.size // SYM_SIZE
    extended: tuple[int, ...] = (0,) * count
    if shndx:
        if wide.size != 4 * count:
            raise UnreadableError(".symtab_shndx does not have one word for each symbol")
        extended = variant.struct(f"{count}I").unpack_from(data, wide.offset)
    symbols = []
    records = variant.struct(_SYM).iter_unpack(data[table.offset : table.offset + table.size])
    for index, (name, info, other, number, value, size) in enumerate(records):
        section = number
        if number == SHN_XINDEX:
            if not shndx:
                raise UnreadableError(f"symbol {index} needs .symtab_shndx, which is missing")
            section = extended[index]
        elif number == SHN_LIVEPATCH:
            section = 0
        elif number >= SHN_LORESERVE:
            section = -section  # SHN_ABS and SHN_COMMON: in no section
        if section >= len(sections):
            raise UnreadableError(f"symbol {index} is in no section")
        text = _name(names, name)
        if info & 15 == STT_SECTION and not text and 0 < section < len(sections):
            text = sections[section].name
        fields = index, text, name, info, other, section, value, size, number
        symbols.append(_as_symbol(fields))
    return tuple(symbols)


def _name(table: bytes, offset: int) -> str:
    """The NUL-terminated name at `offset` of a string table."""
    end = table.find(b"\0", offset)
    if end < 0:
        if offset == 0 and not table:
            return ""
        raise UnreadableError("a name is not inside its string table")
    return table[offset:end].decode("utf-8", "surrogateescape")
