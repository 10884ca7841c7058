"""The symbol table of an object, as columns over the mapped file, and its strings."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.errors import damaged

_SYM = struct.Struct("<IBBHQQ")


class Symbol(NamedTuple):
    """One Elf64_Sym. In an ET_REL file `st_value` is a section offset."""

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


class SymbolTable:
    """The SHT_SYMTAB of a file, its string table and, where it has one, SHT_SYMTAB_SHNDX."""

    def __init__(
        self,
        *,
        name: str,
        index: int,
        strtab: int,
        extended: int | None,
        data: memoryview,
        strings: memoryview,
        shndx: memoryview[int] | None,
        sections: int,
    ) -> None:
        # Without the file itself: a cycle would keep its mapping alive after its last user.
        self._name = name
        self._shndx = shndx
        self._sections = sections
        self.index = index
        """Section index of the table."""
        self.strtab = strtab
        """Section index of its string table."""
        self.extended = extended
        """Section index of its SHT_SYMTAB_SHNDX; None where it has none."""
        self.data = data
        self.strings = strings
        # Columns: one entry a symbol.
        self.st_name = data.cast("I")[0::6]
        self.st_info = data[4::24]
        self.st_shndx = data.cast("H")[3::12]
        self.st_value = data.cast("Q")[1::3]
        self.st_size = data.cast("Q")[2::3]

    def __len__(self) -> int:
        return len(self.data) // c.SYM_SIZE

    def __getitem__(self, index: int) -> Symbol:
        """The symbol at an index from the file; SCP107 where there is none."""
        if index >= len(self):
            raise damaged(self._name, f"symbol {index} is named, there are {len(self)}")
        return Symbol._make(_SYM.unpack_from(self.data, index * c.SYM_SIZE))

    def name(self, index: int) -> str:
        return self.raw_name(self[index].st_name).decode("utf-8", "surrogateescape")

    def raw_name(self, st_name: int) -> bytes:
        return string_at(self.strings, st_name, self._name)

    def section_index(self, index: int) -> int:
        """The section of a symbol, SHN_XINDEX resolved; reserved numbers (SHN_ABS...) as they are,
        but SHN_UNDEF for SHN_LIVEPATCH: the kernel looks for both kinds of symbol.

        Raises SCP107 for a section that does not exist.
        """
        if index >= len(self.st_shndx):
            raise damaged(self._name, f"symbol {index} is named, there are {len(self)}")
        shndx = self.st_shndx[index]
        if shndx == c.SHN_XINDEX:
            if self._shndx is None:
                raise damaged(self._name, f"symbol {index} needs SHT_SYMTAB_SHNDX")
            shndx = self._shndx[index]
        elif shndx >= c.SHN_LORESERVE:
            return c.SHN_UNDEF if shndx == c.SHN_LIVEPATCH else shndx
        if shndx >= self._sections:
            what = f"symbol {index} names section {shndx}, there are {self._sections}"
            raise damaged(self._name, what)
        return shndx

    def with_prefix(self, prefix: bytes) -> Iterator[int]:
        """Indices of the symbols whose names start with `prefix`, in table order.

        String tables are tail-merged, so a name may start in the middle of another string: the
        places of the prefix in the string table are compared with every st_name.
        """
        if not prefix:
            yield from range(1, len(self))
            return
        places = set(find_all(self.strings, prefix))
        if places:
            for index, st_name in enumerate(self.st_name):
                if st_name in places:
                    yield index

    def in_sections(self, wanted: set[int]) -> list[tuple[int, int]]:
        """(symbol index, section index) of the symbols defined in one of the sections `wanted`."""
        small = {section for section in wanted if section < c.SHN_LORESERVE}
        found = [(index, shndx) for index, shndx in enumerate(self.st_shndx) if shndx in small]
        if self._shndx is not None:
            for index, shndx in enumerate(self.st_shndx):
                if shndx == c.SHN_XINDEX and self._shndx[index] in wanted:
                    found.append((index, self._shndx[index]))
        return found


def string_at(table: memoryview, offset: int, file: str) -> bytes:
    """The NUL-terminated string at an offset of a string table; SCP107 where it has no end."""
    step = 64
    while True:
        piece = bytes(table[offset : offset + step])
        end = piece.find(b"\0")
        if end >= 0:
            return piece[:end]
        if offset + step >= len(table):
            raise damaged(file, f"the name at string table offset {offset:#x} has no end")
        step *= 8


def find_all(table: memoryview, needle: bytes) -> Iterator[int]:
    """Every offset of `needle` in `table`, found without a copy of the table."""
    import re

    search = re.compile(re.escape(needle)).search
    match = search(table)
    while match is not None:
        yield match.start()
        match = search(table, match.start() + 1)
