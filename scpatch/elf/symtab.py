"""The symbol table of an object, as columns over the mapped file, and its strings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from scpatch.elf import constants as c
from scpatch.elf.encoding import Encoding
from scpatch.elf.structures import Symbol
from scpatch.errors import damaged


class SymbolTable:
    """The SHT_SYMTAB of a file, its string table and, if there is one, SHT_SYMTAB_SHNDX."""

    def __init__(
        self,
        *,
        name: str,
        encoding: Encoding,
        index: int,
        strtab: int,
        extended: int | None,
        data: memoryview,
        strings: bytes,
        shndx: memoryview[int] | None,
        sections: int,
    ) -> None:
        # Without the file: a cycle would keep its mapping alive after its last user.
        self._name = name
        self.encoding = encoding
        self.shndx = shndx
        self._sections = sections
        self.index = index
        """Section index of the table."""
        self.strtab = strtab
        """Section index of its string table."""
        self.extended = extended
        """Section index of its SHT_SYMTAB_SHNDX; None if it has none."""
        self.strings = strings
        self.set_data(data)

    def set_data(self, data: memoryview) -> None:
        """Takes the entries, and makes columns of them: an entry for each symbol."""
        self.data = data
        self.st_name = self.encoding.column(data, "I", 0, 6)
        self.st_info = data[4::24]
        self.st_shndx = self.encoding.column(data, "H", 3, 12)
        self.st_value = self.encoding.column(data, "Q", 1, 3)
        self.st_size = self.encoding.column(data, "Q", 2, 3)

    def __len__(self) -> int:
        return len(self.data) // c.SYM_SIZE

    def __getitem__(self, index: int) -> Symbol:
        """The symbol at an index from the file; SCP107 if there is none."""
        self._check(index)
        return Symbol._make(self.encoding.symbol.unpack_from(self.data, index * c.SYM_SIZE))

    def name(self, index: int) -> str:
        self._check(index)
        return self.raw_name(self.st_name[index]).decode("utf-8", "surrogateescape")

    def _check(self, index: int) -> None:
        if index >= len(self.st_info):
            raise damaged(self._name, f"symbol {index} is named, there are {len(self)}")

    def raw_name(self, st_name: int) -> bytes:
        return string_at(self.strings, st_name, self._name)

    def section_index(self, index: int) -> int:
        """The section of a symbol, SHN_XINDEX resolved; reserved numbers (SHN_ABS...) as they are,
        but SHN_UNDEF for SHN_LIVEPATCH: the kernel looks for both kinds of symbol.

        Raises SCP107 for a section that does not exist.
        """
        self._check(index)
        shndx = self.st_shndx[index]
        if shndx == c.SHN_XINDEX:
            if self.shndx is None:
                raise damaged(self._name, f"symbol {index} needs SHT_SYMTAB_SHNDX")
            shndx = self.shndx[index]
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

    def defined_in(self, section: int) -> Sequence[int]:
        """The indices of the symbols that are defined in a section."""
        return self._homes.get(section, ())

    def homes(self, sections: Iterable[int]) -> dict[int, int]:
        """The symbols that are defined in some sections -> their sections."""
        return {index: section for section in sections for index in self.defined_in(section)}

    @cached_property
    def _homes(self) -> dict[int, list[int]]:
        """Section index -> the symbols defined there. A file has many symbols, and for each section
        that gets new code somebody asks for those of that section."""
        homes: dict[int, list[int]] = {}
        for index, shndx in enumerate(self.st_shndx):
            homes.setdefault(shndx, []).append(index)
        extended = homes.pop(c.SHN_XINDEX, ())
        for reserved in [shndx for shndx in homes if shndx >= c.SHN_LORESERVE]:
            del homes[reserved]
        if self.shndx is not None:
            for index in extended:
                homes.setdefault(self.shndx[index], []).append(index)
        return homes


def string_at(table: bytes, offset: int, file: str) -> bytes:
    """The NUL-terminated string at an offset of a string table; SCP107 if it has no end."""
    end = table.find(b"\0", offset)
    if end < 0:
        raise damaged(file, f"the name at string table offset {offset:#x} has no end")
    return table[offset:end]


def find_all(table: bytes, needle: bytes) -> Iterator[int]:
    """Every offset of `needle` in `table`."""
    offset = table.find(needle)
    while offset >= 0:
        yield offset
        offset = table.find(needle, offset + 1)
