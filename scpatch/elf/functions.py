"""Which section holds a symbol, and which function holds a section offset."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.symtab import SymbolTable


def section_of(symbols: SymbolTable, index: int) -> int:
    """The section that holds a symbol; 0 if none does, as for SHN_ABS and the like."""
    shndx = symbols.st_shndx[index]
    if shndx >= c.SHN_LORESERVE and shndx != c.SHN_XINDEX:
        return 0
    return symbols.section_index(index)


class Functions:
    """The function symbols of some sections, by section offset."""

    def __init__(self, elf: ElfFile, sections: Iterable[int]) -> None:
        self._symbols = elf.symbols
        self._rows = {section: _rows(elf.symbols, section) for section in set(sections)}

    def nearest(self, section: int, offset: int) -> int | None:
        """The symbol index of the function at or before an offset.

        A sized function that covers the offset is preferred; without one it is the nearest
        symbol before it, as a disassembler would print it.
        """
        rows = self._rows.get(section, [])
        last = bisect_left(rows, (offset + 1,)) - 1
        for at in range(last, max(last - 16, -1), -1):
            if self._covers(rows[at][2], offset):
                return rows[at][2]
        return rows[last][2] if last >= 0 else None

    def covering(self, section: int, offset: int) -> int | None:
        """The symbol index of the sized function that covers an offset."""
        index = self.nearest(section, offset)
        return index if index is not None and self._covers(index, offset) else None

    def _covers(self, index: int, offset: int) -> bool:
        symbols = self._symbols
        return (
            symbols is not None
            and symbols.st_info[index] & 0xF == c.STT_FUNC
            and offset < symbols.st_value[index] + symbols.st_size[index]
        )

    def name(self, section: int, offset: int) -> tuple[str, int]:
        """(name, offset in it) of the function that `nearest` gives; ("", 0) for none."""
        index = self.nearest(section, offset)
        if index is None or self._symbols is None:
            return "", 0
        return self._symbols.name(index), offset - self._symbols.st_value[index]


def _rows(symbols: SymbolTable | None, section: int) -> list[tuple[int, int, int]]:
    """(place, rank, symbol index) of the symbols that may be functions of a section, sorted. Of
    several at one place the sized function comes last, so that it wins."""
    if symbols is None:
        return []
    info, value, size = symbols.st_info, symbols.st_value, symbols.st_size
    return sorted(
        (value[index], (kind == c.STT_FUNC) + 2 * (size[index] > 0), index)
        for index in symbols.defined_in(section)
        if (kind := info[index] & 0xF) in (c.STT_FUNC, c.STT_NOTYPE)
    )
