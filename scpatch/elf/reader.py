"""Reads the tables of an ET_REL file as lazy columns over a memory map.

Nothing is decoded before it is needed. What is decoded is first checked against the file's size, so
that a truncated or forged file gives an error, never a wrong read. All values are as in the file:
section offsets and file offsets in bytes, indices from zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TypeVar

from scpatch.elf import constants as c
from scpatch.elf.encoding import Encoding, encoding_of
from scpatch.elf.relocations import LoadedRelocations, RelaTable
from scpatch.elf.structures import Header, Section
from scpatch.elf.symtab import SymbolTable, find_all, string_at
from scpatch.elf.tables import LOADED, Tables, find_tables
from scpatch.errors import damaged

_T = TypeVar("_T")


_CONTAINER_TABLES = frozenset(
    (c.SHT_SYMTAB, c.SHT_STRTAB, c.SHT_RELA, c.SHT_REL, c.SHT_GROUP, c.SHT_SYMTAB_SHNDX)
)


class ElfFile:
    """A 64-bit relocatable object in `data` (a whole file or an archive member).

    `name` is what messages call the file. Raises ScpatchError (SCP107) for tables that reach past
    the end of `data` or contradict each other, and as `find_tables` does for relocations that
    cannot be read.
    """

    def __init__(self, data: memoryview, name: str) -> None:
        self.data = data
        self.name = name
        if len(data) < c.EHDR_SIZE:
            raise damaged(name, f"the file ends inside the ELF header ({len(data)} bytes)")
        self.encoding = encoding_of(data)
        self.header = Header(*self.encoding.header.unpack_from(data, c.EI_NIDENT))
        self.sections = self._read_sections()
        self.tables = self._find_tables()
        """Section index -> the SHT_RELA sections that relocate it."""
        self._tables: dict[int, RelaTable] = {}
        self._known: dict[tuple[object, int], object] = {}
        self._notes: dict[object, object] = {}

    def _read_sections(self) -> tuple[Section, ...]:
        head = self.header
        if head.e_shoff == 0:
            raise damaged(self.name, "there is no section header table")
        if head.e_shentsize != c.SHDR_SIZE:
            raise damaged(self.name, f"e_shentsize is {head.e_shentsize}, not {c.SHDR_SIZE}")
        first = self.slice(head.e_shoff, c.SHDR_SIZE, "section header 0")
        # Past 65,279 sections the count moves to section header 0 (gABI, "Extended numbering").
        count = head.e_shnum or Section(*self.encoding.section.unpack(first)).sh_size
        table = self.slice(head.e_shoff, count * c.SHDR_SIZE, "the section header table")
        sections = tuple(map(Section._make, self.encoding.section.iter_unpack(table)))
        size = len(self.data)
        for index, section in enumerate(sections):
            # Cheapest first: nearly all sections lie inside the file.
            if section[4] + section[5] > size and section.file_size:
                raise damaged(
                    self.name,
                    f"section {index} reaches to {section.sh_offset + section.file_size:#x}, "
                    f"the file ends at {size:#x}",
                )
        return sections

    def slice(self, offset: int, size: int, what: str) -> memoryview:
        """The bytes at a file offset; raises SCP107 if the file is too short for them."""
        if offset + size > len(self.data):
            raise damaged(
                self.name,
                f"{what} reaches to {offset + size:#x}, the file ends at {len(self.data):#x}",
            )
        return self.data[offset : offset + size]

    def content(self, index: int) -> memoryview:
        """The bytes of a section; empty for SHT_NOBITS."""
        section = self.sections[index]
        return self.data[section.sh_offset : section.sh_offset + section.file_size]

    def known(self, look: Callable[[memoryview, Encoding], _T], index: int) -> _T:
        """What `look` finds in the content of a section, which it looks at once only."""
        key = look, index
        if key not in self._known:
            self._known[key] = look(self.content(index), self.encoding)
        found: _T = self._known[key]  # type: ignore[assignment]
        return found

    def notes(self, kind: type[_T]) -> _T:
        """The one object of a class for this file, empty at first: what its users find out once."""
        if kind not in self._notes:
            self._notes[kind] = kind()
        found: _T = self._notes[kind]  # type: ignore[assignment]
        return found

    def section(self, index: int, what: str) -> Section:
        """The section header at an index from the file; SCP107 if there is none."""
        if index >= len(self.sections):
            raise damaged(
                self.name, f"{what} names section {index}, there are {len(self.sections)}"
            )
        return self.sections[index]

    @cached_property
    def section_names(self) -> int:
        """Index of the section that holds the names of sections; SCP107 if there is none."""
        index = self.header.e_shstrndx
        if index == c.SHN_XINDEX:
            index = self.sections[0].sh_link
        self.section(index, "e_shstrndx")
        return index

    @cached_property
    def _section_names(self) -> bytes:
        return bytes(self.content(self.section_names))

    def sections_named(self, name: str, *, prefix: bool = False) -> list[int]:
        """Indices of the sections with a name, or with names that start with `name`.

        Found by searching the string table, not by reading the names of thousands of sections.
        """
        needle = name.encode() + (b"" if prefix else b"\0")
        return self._named_at(set(find_all(self._section_names, needle)))

    def sections_ending(self, name: str) -> list[int]:
        """Indices of the sections with names that end with `name`, found in the same way."""
        names = self._section_names
        ends = find_all(names, name.encode() + b"\0")
        return self._named_at(
            {at for end in ends for at in range(names.rfind(b"\0", 0, end) + 1, end + 1)}
        )

    def _named_at(self, places: set[int]) -> list[int]:
        """Indices of the sections whose names start at one of some string table offsets."""
        if not places:
            return []
        return [i for i, section in enumerate(self.sections) if section.sh_name in places]

    def section_name(self, index: int) -> str:
        name = self.sections[index].sh_name
        return string_at(self._section_names, name, self.name).decode("utf-8", "surrogateescape")

    @cached_property
    def symbols(self) -> SymbolTable | None:
        """The symbol table; None if the file has none. Two of them are SCP107."""
        tables = [i for i, s in enumerate(self.sections) if s.sh_type == c.SHT_SYMTAB]
        if len(tables) > 1:
            raise damaged(self.name, "there are two symbol tables")
        return self._read_symbols(tables[0]) if tables else None

    def _read_symbols(self, index: int) -> SymbolTable:
        section = self.sections[index]
        if section.sh_entsize != c.SYM_SIZE or section.sh_size % c.SYM_SIZE:
            raise damaged(self.name, "the symbol table has entries of a wrong size")
        if self.section(section.sh_link, "the symbol table").sh_type != c.SHT_STRTAB:
            raise damaged(self.name, "the symbol table's sh_link is no string table")
        extended = self._extended_index(index)
        return SymbolTable(
            name=self.name,
            encoding=self.encoding,
            index=index,
            strtab=section.sh_link,
            extended=extended,
            data=self.content(index),
            strings=bytes(self.content(section.sh_link)),
            shndx=None if extended is None else self.encoding.column(self.content(extended), "I"),
            sections=len(self.sections),
        )

    def _extended_index(self, symtab: int) -> int | None:
        """Section index of the SHT_SYMTAB_SHNDX that belongs to the symbol table."""
        for index, section in enumerate(self.sections):
            if section.sh_type == c.SHT_SYMTAB_SHNDX and section.sh_link == symtab:
                if section.sh_size != self.sections[symtab].sh_size // c.SYM_SIZE * 4:
                    raise damaged(self.name, "SHT_SYMTAB_SHNDX does not fit the symbol table")
                return index
        return None

    def _find_tables(self) -> Mapping[int, Tables]:
        return find_tables(self.name, self.sections, self.section_name)

    @property
    def relocated(self) -> Iterable[int]:
        """The indices of the sections that have relocations."""
        return self.tables.keys()

    def relocations(self, target: int) -> RelaTable | None:
        """The relocations that apply to the section `target`; None if there are none.

        Those of livepatch tables follow the others.
        """
        table = self._tables.get(target)
        if table is None and (tables := self.tables.get(target)) is not None:
            contents = self._contents(tables)
            data = contents[0] if len(contents) == 1 else memoryview(b"".join(contents))
            table = RelaTable(target, data, self.encoding)
            last, count = max(table.symbol, default=0), len(self.symbols or ())
            if last >= count and len(table):
                what = f"section {tables.ordinary} (SHT_RELA) names symbol {last}"
                raise damaged(self.name, f"{what}, there are {count}")
            self._tables[target] = table
        return table

    @cached_property
    def loaded(self) -> LoadedRelocations:
        """The relocations that apply to sections which are in memory or hold code."""
        contents = {
            target: b"".join(self._contents(tables))
            for target, tables in self.tables.items()
            if self.sections[target].sh_flags & LOADED
        }
        table = LoadedRelocations(contents, self.encoding)
        if len(table) and max(table.symbol) >= len(self.symbols or ()):
            for target in contents:
                self.relocations(target)  # one of them is refused by its name
        return table

    def _contents(self, tables: Tables) -> list[memoryview]:
        """The entries of the tables of a section."""
        contents = [self._entries(tables.ordinary)[0]] if tables.ordinary else []
        return contents + [self._read_livepatch(index) for index in tables.livepatch]

    def check_code(self) -> None:
        """Raises SCP107 for a code section whose relocations are damaged, as far as can be seen
        without looking at each: also in an object without call sites."""
        for target in self.code_sections():
            for index in (self.tables[target].ordinary, *self.tables[target].livepatch):
                if index:
                    self._entries(index)

    def _entries(self, index: int) -> tuple[memoryview, SymbolTable]:
        """The content of a SHT_RELA section, and the symbols that it names."""
        section = self.sections[index]
        if section.sh_entsize != c.RELA_SIZE or section.sh_size % c.RELA_SIZE:
            raise damaged(self.name, f"section {index} (SHT_RELA) has entries of a wrong size")
        if self.symbols is None or section.sh_link != self.symbols.index:
            raise damaged(
                self.name, f"section {index} (SHT_RELA) does not belong to the symbol table"
            )
        if not len(self.symbols):
            raise damaged(self.name, "the symbol table is empty")
        return self.content(index), self.symbols

    def _read_livepatch(self, index: int) -> memoryview:
        """A livepatch table. The kernel takes only symbols of SHN_LIVEPATCH in one
        (klp_resolve_symbols in kernel/livepatch/core.c)."""
        data, symbols = self._entries(index)
        for symbol in self.encoding.upper_halves(data, 1, 3):
            if symbols[symbol].st_shndx != c.SHN_LIVEPATCH:
                what = f"section {index} (livepatch relocations) names the symbol {symbol}, which "
                raise damaged(self.name, what + "is not SHN_LIVEPATCH")
        return data

    def code_sections(self) -> Iterator[int]:
        """Indices of the sections that hold instructions and are relocated."""
        for index in sorted(self.relocated):
            if self.is_code(index):
                yield index

    def is_executable(self, index: int) -> bool:
        """Whether a section is marked for instructions and is not one of the container's tables;
        it may be empty."""
        section = self.sections[index]
        return bool(section.sh_flags & c.SHF_EXECINSTR) and section.sh_type not in _CONTAINER_TABLES

    def is_code(self, index: int) -> bool:
        """Whether a section holds instructions, whatever its sh_type, unless it is one of the
        container's tables. SCP107 if it is compressed: no linker or loader takes that."""
        section = self.sections[index]
        if not self.is_executable(index) or not section.file_size:
            return False
        if section.sh_flags & c.SHF_COMPRESSED:
            raise damaged(self.name, f"code section {index} is compressed")
        return True
