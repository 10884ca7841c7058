"""Finds trampolines and stubs in a symbol table, and the functions around section offsets."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.symtab import Symbol, SymbolTable
from scpatch.sites.model import (
    STUB_PREFIX,
    THUNK_PREFIX,
    TOC_PREFIX,
    Stub,
    Trampoline,
    trampoline_of,
)

DEFAULT_TRAMPOLINES = ("__SCT__*",)

_DIGEST = re.compile(r"\.[0-9a-f]{12}")
_LIVEPATCH = re.compile(r"\.klp\.sym\.[^.]+\.(.+),[0-9]+", re.DOTALL)
"""The name of a symbol that a livepatch finds, with the symbol's own name in it
(Linux, Documentation/livepatch/module-elf-format.rst)."""
_NAMELESS = (c.STT_SECTION, c.STT_FILE)


def find_trampolines(symbols: SymbolTable, patterns: Sequence[str]) -> list[Trampoline]:
    """The symbols whose names match one of the shell patterns, in symbol table order; also those
    that are no code, since a call of one is to be refused by its name.

    Stubs of an earlier run are none, whatever their names match.
    """
    found = {}
    for pattern in patterns:
        for index, symbol, name in _matching(symbols, pattern):
            if not name.startswith((STUB_PREFIX, THUNK_PREFIX, TOC_PREFIX)):
                found[index] = _trampoline(symbols, index, symbol, name)
    for index, symbol, name in _matching(symbols, ".klp.sym.*"):
        parts = _LIVEPATCH.fullmatch(name)
        if symbol.st_shndx == c.SHN_LIVEPATCH and parts and _matches(parts[1], patterns):
            found[index] = _trampoline(symbols, index, symbol, name)
    return [found[index] for index in sorted(found)]


def find_stubs(symbols: SymbolTable, patterns: Sequence[str]) -> list[Stub]:
    """The stubs that an earlier run added for trampolines that match one of the patterns."""
    found = []
    for prefix in (STUB_PREFIX, THUNK_PREFIX):
        for index, symbol, name in _matching(symbols, prefix + "*"):
            trampoline = trampoline_of(name, prefix)
            section = section_of(symbols, index)
            if _DIGEST.fullmatch(name[-13:]) and section and _matches(trampoline, patterns):
                found.append(
                    Stub(name, trampoline, index, section, symbol.st_value, symbol.st_size)
                )
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.match(translate(pattern), name) for pattern in patterns)


def _matching(symbols: SymbolTable, pattern: str) -> Iterator[tuple[int, Symbol, str]]:
    prefix = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    regex = re.compile(translate(pattern))
    for index in symbols.with_prefix(prefix.encode("utf-8", "surrogateescape")):
        symbol = symbols[index]
        name = symbols.raw_name(symbol.st_name).decode("utf-8", "surrogateescape")
        if name and symbol.type not in _NAMELESS and regex.match(name):
            yield index, symbol, name


def _trampoline(symbols: SymbolTable, index: int, symbol: Symbol, name: str) -> Trampoline:
    section = section_of(symbols, index)
    is_reserved = not section and symbol.st_shndx != c.SHN_UNDEF
    return Trampoline(
        name,
        index,
        section,
        symbol.st_value,
        symbol.st_size,
        symbol.st_info,
        symbol.st_other,
        symbol.st_shndx if is_reserved else 0,
    )


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
        self._rows: dict[int, list[tuple[int, int, int]]] = {}
        wanted = set(sections)
        symbols = elf.symbols
        if symbols is None or not wanted:
            return
        info, value, size = symbols.st_info, symbols.st_value, symbols.st_size
        for index, section in symbols.in_sections(wanted):
            kind = info[index] & 0xF
            if kind in (c.STT_FUNC, c.STT_NOTYPE):
                # Of several symbols at one place the sized function comes last, so that it wins.
                rank = (kind == c.STT_FUNC) + 2 * (size[index] > 0)
                self._rows.setdefault(section, []).append((value[index], rank, index))
        for rows in self._rows.values():
            rows.sort()

    def around(self, section: int, offset: int) -> int | None:
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
        index = self.around(section, offset)
        return index if index is not None and self._covers(index, offset) else None

    def _covers(self, index: int, offset: int) -> bool:
        symbols = self._symbols
        return (
            symbols is not None
            and symbols.st_info[index] & 0xF == c.STT_FUNC
            and offset < symbols.st_value[index] + symbols.st_size[index]
        )

    def name(self, section: int, offset: int) -> tuple[str, int]:
        """(name, offset in it) of the function around a section offset; ("", 0) without one."""
        index = self.around(section, offset)
        if index is None or self._symbols is None:
            return "", 0
        return self._symbols.name(index), offset - self._symbols.st_value[index]

    def inside(self, section: int, start: int, end: int) -> list[int]:
        """The section offsets of symbols strictly between two offsets."""
        rows = self._rows.get(section, [])
        return [row[0] for row in rows[bisect_left(rows, (start + 1,)) : bisect_left(rows, (end,))]]
