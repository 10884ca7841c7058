"""Adds code, symbols, relocations and sections to an object, and turns that into edits.

Existing entries keep their places: new symbols go to the end of .symtab, their names to the end of
its string table, new relocations to the end of the section's table, new sections after all others.
"""

from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.layout import Edits, NewSection, SectionEdit
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Section
from scpatch.elf.symtab import SymbolTable
from scpatch.errors import ScpatchError, damaged

_ST_OTHER = 5
"""Offset of st_other in Elf64_Sym."""


class NewSymbol(NamedTuple):
    """A hidden function symbol.

    Hidden, so that the final link makes it local. It cannot be local here: local symbols come
    first in the table, and every index after them would change. With `unique` (STB_GLOBAL) the
    linker refuses a second symbol of the name; without, the first serves for both.
    """

    name: str
    section: int
    value: int
    """Section offset."""
    size: int
    """Bytes."""
    unique: bool


class NewRelocation(NamedTuple):
    section: int
    """Section index of what is relocated."""
    offset: int
    """Section offset."""
    symbol: int
    """Index in .symtab."""
    type: int
    addend: int


class Additions:
    """Collects the changes of an object; `edits` gives them all."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self.encoding = elf.encoding
        self._patches: dict[int, list[tuple[int, bytes]]] = {}
        self._tails: dict[int, bytearray] = {}
        self._sections: list[NewSection] = []

    def patch(self, section: int, offset: int, new: bytes) -> None:
        """Replaces bytes at a section offset."""
        self._patches.setdefault(section, []).append((offset, new))

    def patch_words(self, section: int, offset: int, *words: int) -> None:
        """Replaces 32-bit numbers, such as instructions, at a section offset."""
        self.patch(section, offset, self.encoding.pack_words(*words))

    def append(self, section: int, code: bytes) -> None:
        self._tails.setdefault(section, bytearray()).extend(code)

    def end(self, section: int) -> int:
        """The section's size with what has been appended so far, in bytes."""
        return self._elf.sections[section].sh_size + len(self._tails.get(section, b""))

    def add_symbol(self, symbol: NewSymbol) -> int:
        """Returns the new symbol's index in .symtab."""
        table = self._table()
        name = self._add_name(table.strtab, symbol.name)
        extended = symbol.section >= c.SHN_LORESERVE
        binding = c.STB_GLOBAL if symbol.unique else c.STB_WEAK
        index = self.end(table.index) // c.SYM_SIZE
        self.append(
            table.index,
            self.encoding.symbol.pack(
                name,
                binding << 4 | c.STT_FUNC,
                c.STV_HIDDEN,
                c.SHN_XINDEX if extended else symbol.section,
                symbol.value,
                symbol.size,
            ),
        )
        if table.extended is not None:
            self.append(table.extended, self.encoding.pack(symbol.section if extended else 0, 4))
        elif extended:
            raise ScpatchError(
                "SCP107",
                f"a symbol in section {symbol.section} needs SHT_SYMTAB_SHNDX, and there is none",
                file=self._elf.name,
                hint="rewrite the objects before `ld -r` combines so many sections",
            )
        return index

    def _add_name(self, strings: int, name: str) -> int:
        """Appends a name to the string table in section `strings`; returns its offset there."""
        last = bytes(self._elf.content(strings)[-1:])
        if not self._tails.get(strings) and last != b"\0":
            raise damaged(self._elf.name, "the string table does not end with NUL")
        offset = self.end(strings)
        if offset > 0xFFFFFFFF:
            raise damaged(self._elf.name, "the string table has no room for another name")
        # A name that could not be decoded when it was read goes back as it was.
        self.append(strings, name.encode("utf-8", "surrogateescape") + b"\0")
        return offset

    def add_section(
        self,
        name: str,
        kind: int,
        flags: int,
        content: bytes,
        *,
        align: int,
        entry_size: int = 0,
        link: int = 0,
        info: int = 0,
    ) -> int:
        """Returns the new section's index. `kind` is its sh_type."""
        if self._elf.sections[self._elf.section_names].sh_type != c.SHT_STRTAB:
            raise damaged(self._elf.name, "e_shstrndx names no string table")
        place, size = self._add_name(self._elf.section_names, name), len(content)
        header = Section(place, kind, flags, 0, 0, size, link, info, align, entry_size)
        self._sections.append(NewSection(header, content))
        return len(self._elf.sections) + len(self._sections) - 1

    def add_relocation(self, new: NewRelocation) -> None:
        table = self._ordinary_table(new.section)
        self.append(table, self.encoding.pack_relocation(*new[1:]))

    def retarget(self, section: int, index: int, symbol: int, kind: int) -> None:
        """Makes the relocation at `index` of the section's table name `symbol`, addend 0."""
        table = self._ordinary_table(section)
        assert index < len(self._elf.content(table)) // c.RELA_SIZE, "no livepatch relocation"
        info_and_addend = self.encoding.pack_relocation(0, symbol, kind, 0)[8:]
        self.patch(table, index * c.RELA_SIZE + 8, info_and_addend)

    def _ordinary_table(self, section: int) -> int:
        """Section index of the table that the linker or module loader applies to a section."""
        tables = self._elf.tables.get(section)
        if tables is None or not tables.ordinary:
            what = f"section {section} has no SHT_RELA table apart from those of livepatches"
            raise damaged(self._elf.name, what)
        return tables.ordinary

    def set_other(self, symbol: int, st_other: int) -> None:
        """Replaces the st_other of the symbol at an index."""
        self.patch(self._table().index, symbol * c.SYM_SIZE + _ST_OTHER, bytes([st_other]))

    def edits(self) -> Edits:
        """What was added and changed; false if nothing was."""
        touched = sorted(self._patches.keys() | self._tails.keys())
        sections = {
            section: SectionEdit(
                tuple(sorted(self._patches.get(section, ()))),
                bytes(self._tails.get(section, b"")),
            )
            for section in touched
        }
        return Edits(sections, tuple(self._sections))

    def __bool__(self) -> bool:
        return bool(self._patches or self._tails or self._sections)

    def _table(self) -> SymbolTable:
        table = self._elf.symbols
        assert table is not None, "an object with call sites has symbols"
        return table
