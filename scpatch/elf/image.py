"""Reads a linked image (ET_EXEC or ET_DYN), such as vmlinux, as if it were an object.

In the file the values of symbols are addresses, program headers say what is loaded, and
relocations, if there are any, have been applied (`ld --emit-relocs`) or are for the loader. Here
symbols have section offsets, as in an object, and there are no relocations, so that whatever
works on section offsets works on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType

from scpatch.elf import constants as c
from scpatch.elf.layout import Layout
from scpatch.elf.reader import ElfFile
from scpatch.elf.relocations import RelaTable
from scpatch.elf.structures import Segment
from scpatch.elf.symtab import SymbolTable
from scpatch.elf.tables import Tables
from scpatch.errors import ScpatchError, damaged

_ST_VALUE = 8
"""Offset of the field in Elf64_Sym."""
_MASK = (1 << 64) - 1


class LinkedImage(ElfFile):
    """A linked image. Raises ScpatchError (SCP107) as `ElfFile` does."""

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        head = self.header
        size = self.encoding.segment.size
        if head.e_phnum and head.e_phentsize != size:
            raise damaged(self.name, f"e_phentsize is {head.e_phentsize}, not {size}")
        table = self.slice(head.e_phoff, head.e_phnum * size, "the program header table")
        return tuple(map(Segment._make, self.encoding.segment.iter_unpack(table)))

    def address(self, section: int, offset: int) -> int:
        """The virtual address of a section offset."""
        return self.sections[section].sh_addr + offset

    def executable(self) -> Iterator[int]:
        """Indices of the sections that hold instructions."""
        yield from filter(self.is_code, range(len(self.sections)))

    def _find_tables(self) -> Mapping[int, Tables]:
        """None: no linker will relocate anything any more."""
        return MappingProxyType({})

    def emitted_relocations(self) -> Iterator[RelaTable]:
        """The relocations of code that the linker was told to keep; `r_offset` is an address."""
        for index, section in enumerate(self.sections):
            if section.sh_type != c.SHT_RELA or not section.sh_info:
                continue
            of = self.section(section.sh_info, f"section {index} (SHT_RELA)")
            if of.sh_flags & c.SHF_EXECINSTR and section.sh_size % c.RELA_SIZE == 0:
                yield RelaTable(section.sh_info, self.content(index), self.encoding)

    def _read_symbols(self, index: int) -> SymbolTable:
        """The symbol table with section offsets for addresses."""
        table = super()._read_symbols(index)
        data = bytearray(table.data)
        addresses = [section.sh_addr for section in self.sections]
        put = self.encoding.long.pack_into
        for symbol, (shndx, value) in enumerate(zip(table.st_shndx, table.st_value, strict=True)):
            if 0 < shndx < len(addresses):
                # If a linker script puts it before its section, it becomes a huge number.
                put(data, symbol * c.SYM_SIZE + _ST_VALUE, (value - addresses[shndx]) & _MASK)
        table.set_data(memoryview(data))
        return table

    def check_layout(self, layout: Layout) -> None:
        """Raises SCP224 if a new layout would move what a program header names."""
        ends = [segment.p_offset + segment.p_filesz for segment in self.segments]
        ends.append(self.header.e_phoff + self.header.e_phnum * self.encoding.segment.size)
        end = max(ends)
        if any(copy.source != copy.target and copy.source < end for copy in layout.copies):
            raise ScpatchError("SCP224", "its .comment comes before what is loaded", file=self.name)
