"""Numbers of the gABI, by their names there."""

from typing import Final

EI_NIDENT: Final = 16
EHDR_SIZE: Final = 64
SHDR_SIZE: Final = 64
SYM_SIZE: Final = 24
RELA_SIZE: Final = 24

ET_REL: Final = 1
ET_EXEC: Final = 2
ET_DYN: Final = 3
ET_CORE: Final = 4

SHT_NULL: Final = 0
SHT_PROGBITS: Final = 1
SHT_SYMTAB: Final = 2
SHT_STRTAB: Final = 3
SHT_RELA: Final = 4
SHT_HASH: Final = 5
SHT_DYNAMIC: Final = 6
SHT_NOTE: Final = 7
SHT_NOBITS: Final = 8
SHT_REL: Final = 9
SHT_SHLIB: Final = 10
SHT_DYNSYM: Final = 11
SHT_INIT_ARRAY: Final = 14
SHT_FINI_ARRAY: Final = 15
SHT_PREINIT_ARRAY: Final = 16
SHT_GROUP: Final = 17
SHT_SYMTAB_SHNDX: Final = 18
SHT_RELR: Final = 19
# Of GNU binutils (include/elf/common.h) and LLVM (llvm/BinaryFormat/ELF.h).
SHT_SECONDARY_RELOC: Final = 0x60000004
SHT_GNU_ATTRIBUTES: Final = 0x6FFFFFF5
SHT_GNU_HASH: Final = 0x6FFFFFF6
SHT_GNU_LIBLIST: Final = 0x6FFFFFF7
SHT_GNU_VERDEF: Final = 0x6FFFFFFD
SHT_GNU_VERNEED: Final = 0x6FFFFFFE
SHT_GNU_VERSYM: Final = 0x6FFFFFFF
SHT_CREL: Final = 0x40000014
SHT_ANDROID_REL: Final = 0x60000001
SHT_ANDROID_RELA: Final = 0x60000002
SHT_ANDROID_RELR: Final = 0x6FFFFF00

SHF_WRITE: Final = 0x1
SHF_ALLOC: Final = 0x2
SHF_EXECINSTR: Final = 0x4
SHF_MERGE: Final = 0x10
SHF_STRINGS: Final = 0x20
SHF_INFO_LINK: Final = 0x40
SHF_GROUP: Final = 0x200
SHF_COMPRESSED: Final = 0x800
SHF_RELA_LIVEPATCH: Final = 0x00100000
"""Of Linux (include/uapi/linux/elf.h)."""

SHN_UNDEF: Final = 0
SHN_LORESERVE: Final = 0xFF00
SHN_LIVEPATCH: Final = 0xFF20
"""Of Linux (include/uapi/linux/elf.h): the kernel finds the symbol when it applies a livepatch."""
SHN_ABS: Final = 0xFFF1
SHN_COMMON: Final = 0xFFF2
SHN_XINDEX: Final = 0xFFFF

STB_LOCAL: Final = 0
STB_GLOBAL: Final = 1
STB_WEAK: Final = 2

STT_NOTYPE: Final = 0
STT_OBJECT: Final = 1
STT_FUNC: Final = 2
STT_SECTION: Final = 3
STT_FILE: Final = 4
STT_COMMON: Final = 5
STT_TLS: Final = 6
STT_GNU_IFUNC: Final = 10

STV_HIDDEN: Final = 2
