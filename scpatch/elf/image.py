"""Reads a linked image (ET_EXEC or ET_DYN), such as vmlinux, as if it were an object.

What differs in the file: symbols have addresses for values, program headers say what is loaded, and
relocations, where there are any, are of the past (`ld --emit-relocs`) or for the loader. Here
symbols have section offsets, as in an object, and there are no relocations, so that whatever
works on section offsets works on both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.layout import Layout
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.elf.symtab import SymbolTable
from scpatch.elf.tables import Tables
from scpatch.errors import ScpatchError, damaged

_PHDR = struct.Struct("<IIQQQQQQ")
_MASK = (1 << 64) - 1


class Segment(NamedTuple):
    """A program header. Offsets are file offsets, sizes are in bytes."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int


class Image(ElfFile):
    """A linked image. Raises ScpatchError (SCP107) as `ElfFile` does."""

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        head = self.header
        if head.e_phnum and head.e_phentsize != _PHDR.size:
            raise damaged(self.name, f"e_phentsize is {head.e_phentsize}, not {_PHDR.size}")
        table = self.slice(head.e_phoff, head.e_phnum * _PHDR.size, "the program header table")
        return tuple(map(Segment._make, _PHDR.iter_unpack(table)))

    def address(self, section: int, offset: int) -> int:
        """The virtual address of a section offset."""
        return self.sections[section].sh_addr + offset

    def executable(self) -> Iterator[int]:
        """Indices of the sections that hold instructions."""
        yield from filter(self.is_code, range(len(self.sections)))

    def _find_tables(self) -> Mapping[int, Tables]:
        """None: nothing will be relocated by a linker any more."""
        return MappingProxyType({})

    def kept_relocations(self) -> Iterator[RelaTable]:
        """The relocations of code that the linker was told to keep; `r_offset` is an address."""
        for index, section in enumerate(self.sections):
            if section.sh_type != c.SHT_RELA or not section.sh_info:
                continue
            of = self.section(section.sh_info, f"section {index} (SHT_RELA)")
            if of.sh_flags & c.SHF_EXECINSTR and section.sh_size % c.RELA_SIZE == 0:
                yield RelaTable(section.sh_info, self.content(index))

    def _read_symbols(self, index: int) -> SymbolTable:
        """The symbol table with section offsets for addresses."""
        table = super()._read_symbols(index)
        data = bytearray(table.data)
        values = memoryview(data).cast("Q")[1::3]
        addresses = [section.sh_addr for section in self.sections]
        for symbol, shndx in enumerate(table.st_shndx):
            if 0 < shndx < len(addresses):
                # One that a linker script puts in front of its section becomes a huge number.
                values[symbol] = (values[symbol] - addresses[shndx]) & _MASK
        return SymbolTable(
            name=self.name,
            index=index,
            strtab=table.strtab,
            extended=table.extended,
            data=memoryview(data),
            strings=table.strings,
            shndx=None if table.extended is None else self.content(table.extended).cast("I"),
            sections=len(self.sections),
        )

    def check_layout(self, layout: Layout) -> None:
        """Raises SCP224 where a new layout would move what a program header names."""
        ends = [one.p_offset + one.p_filesz for one in self.segments]
        ends.append(self.header.e_phoff + self.header.e_phnum * _PHDR.size)
        end = max(ends)
        if any(copy.source != copy.target and copy.source < end for copy in layout.copies):
            raise ScpatchError(
                "SCP224", "its .comment lies in front of what is loaded", file=self.name
            )
