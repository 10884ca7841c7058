"""Finds trampolines and stubs in a symbol table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import translate

from scpatch.elf import constants as c
from scpatch.elf.functions import section_of
from scpatch.elf.structures import Symbol
from scpatch.elf.symtab import SymbolTable
from scpatch.sites.model import (
    STUB_PREFIX,
    THUNK_PREFIX,
    TOC_PREFIX,
    Stub,
    Trampoline,
    trampoline_of,
)

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
