"""The structures of the System V gABI for ELFCLASS64, with its field names.

Sizes are in bytes. Offsets count from the start of the file, if nothing else is said.
"""

from typing import NamedTuple

from scpatch.elf import constants as c

CodePlace = tuple[int, int]
"""(section index, section offset)"""


class Header(NamedTuple):
    """Elf64_Ehdr without e_ident."""

    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int


class Section(NamedTuple):
    """Elf64_Shdr."""

    sh_name: int
    sh_type: int
    sh_flags: int
    sh_addr: int
    sh_offset: int
    sh_size: int
    sh_link: int
    sh_info: int
    sh_addralign: int
    sh_entsize: int

    @property
    def file_size(self) -> int:
        """Bytes that the section takes in the file: none for SHT_NULL and SHT_NOBITS."""
        return 0 if self.sh_type in (c.SHT_NULL, c.SHT_NOBITS) else self.sh_size


class Symbol(NamedTuple):
    """Elf64_Sym. In an ET_REL file `st_value` is a section offset."""

    st_name: int
    st_info: int
    st_other: int
    st_shndx: int
    st_value: int
    st_size: int

    @property
    def binding(self) -> int:
        return self.st_info >> 4

    @property
    def type(self) -> int:
        return self.st_info & 0xF


class Relocation(NamedTuple):
    """Elf64_Rela; `r_offset` is an offset in the section that `sh_info` names."""

    r_offset: int
    r_info: int
    r_addend: int

    @property
    def symbol(self) -> int:
        return self.r_info >> 32

    @property
    def type(self) -> int:
        return self.r_info & 0xFFFFFFFF


class Segment(NamedTuple):
    """Elf64_Phdr."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int
