"""Finds trampolines and stubs in a symbol table, and the functions around section offsets."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile, Symbol, SymbolTable
from scpatch.staticcall.model import STUB_PREFIX, THUNK_PREFIX, Stub, Trampoline

DEFAULT_TRAMPOLINES = ("__SCT__*",)

_DIGEST = re.compile(r"\.[0-9a-f]{12}")
_NO_CODE = (c.STT_SECTION, c.STT_FILE, c.STT_OBJECT)


def find_trampolines(symbols: SymbolTable, patterns: Sequence[str]) -> list[Trampoline]:
    """The symbols whose names match one of the shell patterns, in symbol table order.

    Stubs of an earlier run are none, whatever their names match.
    """
    found = {}
    for pattern in patterns:
        for index, symbol, name in _matching(symbols, pattern):
            if not name.startswith((STUB_PREFIX, THUNK_PREFIX)):
                found[index] = _trampoline(symbols, index, symbol, name)
    return [found[index] for index in sorted(found)]


def find_stubs(symbols: SymbolTable, patterns: Sequence[str]) -> list[Stub]:
    """The stubs that an earlier run added for trampolines that match one of the patterns."""
    found = []
    for prefix in (STUB_PREFIX, THUNK_PREFIX):
        for index, symbol, name in _matching(symbols, prefix + "*"):
            trampoline = name[len(prefix) : -13]
            section = symbols.section_index(index)
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
    for index in symbols.with_prefix(prefix.encode()):
        symbol = symbols[index]
        name = symbols.raw_name(symbol.st_name).decode("utf-8", "surrogateescape")
        if name and symbol.type not in _NO_CODE and regex.match(name):
            yield index, symbol, name


def _trampoline(symbols: SymbolTable, index: int, symbol: Symbol, name: str) -> Trampoline:
    local = symbol.binding == c.STB_LOCAL
    section = symbols.section_index(index)
    return Trampoline(name, index, section, symbol.st_value, symbol.st_size, symbol.st_other, local)


class Functions:
    """The function symbols of some sections, by section offset."""

    def __init__(self, elf: ElfFile, sections: Iterable[int]) -> None:
        self._starts: dict[int, list[int]] = {}
        self._found: dict[int, list[tuple[Symbol, int]]] = {}
        symbols = elf.symbols
        wanted = set(sections)
        if symbols is None or not wanted:
            return
        self._symbols = symbols
        rows: dict[int, list[tuple[int, int, Symbol, int]]] = {}
        for index in symbols.in_sections(wanted):
            symbol = symbols[index]
            if symbol.type in (c.STT_FUNC, c.STT_NOTYPE):
                # Of several symbols at one place the sized function comes last, so that it wins.
                rank = (symbol.type == c.STT_FUNC) + 2 * (symbol.st_size > 0)
                section = symbols.section_index(index)
                rows.setdefault(section, []).append((symbol.st_value, rank, symbol, index))
        for section, entries in rows.items():
            entries.sort()
            self._starts[section] = [entry[0] for entry in entries]
            self._found[section] = [(entry[2], entry[3]) for entry in entries]

    def around(self, section: int, offset: int) -> tuple[Symbol, int] | None:
        """The function symbol at or before an offset, and its index.

        A sized function that covers the offset is preferred; without one it is the nearest
        symbol before it, as a disassembler would print it.
        """
        starts = self._starts.get(section)
        if not starts:
            return None
        found = self._found[section]
        last = bisect_right(starts, offset) - 1
        for at in range(last, max(last - 16, -1), -1):
            symbol, _ = found[at]
            if symbol.type == c.STT_FUNC and offset < symbol.st_value + symbol.st_size:
                return found[at]
        return found[last] if last >= 0 else None

    def covering(self, section: int, offset: int) -> Symbol | None:
        """The sized function that covers an offset."""
        found = self.around(section, offset)
        if found is None or offset >= found[0].st_value + found[0].st_size:
            return None
        return found[0] if found[0].type == c.STT_FUNC else None

    def name(self, section: int, offset: int) -> tuple[str, int]:
        """(name, offset in it) of the function around a section offset; ("", 0) without one."""
        found = self.around(section, offset)
        if found is None:
            return "", 0
        symbol, index = found
        return self._symbols.name(index), offset - symbol.st_value

    def inside(self, section: int, start: int, end: int) -> Iterator[int]:
        """The section offsets of symbols strictly between two offsets."""
        for value in self._starts.get(section, ())[bisect_right(self._starts[section], start) :]:
            if value >= end:
                break
            yield value
