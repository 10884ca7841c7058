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


_Function = tuple[int, int, int, int]
"""A symbol that may be a function: its section offset; a rank, since of several at one place the
sized one comes last, so that it wins; the section offset after what it covers, which is its start
if it has no size or is no STT_FUNC; its index."""


class Functions:
    """The function symbols of some sections, by section offset."""

    def __init__(self, elf: ElfFile, sections: Iterable[int]) -> None:
        self._symbols = elf.symbols
        self._sections = {section: _functions(elf.symbols, section) for section in set(sections)}

    def _at(self, section: int, offset: int) -> _Function | None:
        functions = self._sections.get(section, ())
        last = bisect_left(functions, (offset + 1,)) - 1
        for at in range(last, max(last - 16, -1), -1):
            _, _, end, _ = functions[at]
            if offset < end:
                return functions[at]
        return functions[last] if last >= 0 else None

    def covering(self, section: int, offset: int) -> int | None:
        """The symbol index of the sized function that covers an offset."""
        function = self._at(section, offset)
        if function is None:
            return None
        _, _, end, symbol = function
        return symbol if offset < end else None

    def name(self, section: int, offset: int) -> tuple[str, int]:
        """(name, offset in it) of the function at or before an offset; ("", 0) for none.

        A sized function that covers the offset is preferred; without one it is the nearest
        symbol before it, as a disassembler would print it.
        """
        function = self._at(section, offset)
        if function is None or self._symbols is None:
            return "", 0
        start, _, _, symbol = function
        return self._symbols.name(symbol), offset - start


def _functions(symbols: SymbolTable | None, section: int) -> list[_Function]:
    """The functions of a section, sorted."""
    if symbols is None:
        return []
    info, value, size = symbols.st_info, symbols.st_value, symbols.st_size
    functions = []
    for index in symbols.defined_in(section):
        kind = info[index] & 0xF
        if kind in (c.STT_FUNC, c.STT_NOTYPE):
            start, sized = value[index], size[index] if kind == c.STT_FUNC else 0
            rank = (kind == c.STT_FUNC) + 2 * (size[index] > 0)
            functions.append((start, rank, start + sized, index))
    functions.sort()
    return functions
