"""Finds trampolines in a symbol table."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fnmatch import translate
from functools import cache

from scpatch.elf import constants as c
from scpatch.elf.functions import section_of
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Symbol
from scpatch.elf.symtab import SymbolTable
from scpatch.sites.model import Trampoline

_ADDED = re.compile(r"r2[a-z]+\.(?:.+\.)?[0-9a-f]{12}", re.DOTALL)
"""The names of code that a rewrite adds, see `strategies.added_code`."""
_LIVEPATCH = re.compile(r"\.klp\.sym\.[^.]+\.(.+),[0-9]+", re.DOTALL)
"""The name of a symbol that a livepatch finds, with the symbol's own name in it
(Linux, Documentation/livepatch/module-elf-format.rst)."""
_NAMELESS = (c.STT_SECTION, c.STT_FILE)


def find_trampolines(symbols: SymbolTable, patterns: Sequence[str]) -> list[Trampoline]:
    """The symbols whose names match one of the shell patterns, in symbol table order; also those
    that are no code, since a call of one is to be refused by its name.

    The code that a rewrite has added is left out, whatever its names match.
    """
    trampolines = {}
    for pattern in patterns:
        for index, symbol, name in named(symbols, pattern):
            if not is_added(name):
                trampolines[index] = _trampoline(symbols, index, symbol, name)
    for index, symbol, name in named(symbols, ".klp.sym.*"):
        parts = _LIVEPATCH.fullmatch(name)
        if symbol.st_shndx == c.SHN_LIVEPATCH and parts and matches(parts[1], patterns):
            trampolines[index] = _trampoline(symbols, index, symbol, name)
    return [trampolines[index] for index in sorted(trampolines)]


def find_in(elf: ElfFile, symbols: SymbolTable, patterns: Sequence[str]) -> list[Trampoline]:
    """What `find_trampolines` finds, none longer than to the next function or to the end of its
    section, whatever its st_size says: a call from behind that is none of its own."""
    trampolines = find_trampolines(symbols, patterns)
    homes = {trampoline.section for trampoline in trampolines if trampoline.defined}
    kinds, values = symbols.st_info, symbols.st_value
    starts = {}
    for home in homes:
        functions = (at for at in symbols.defined_in(home) if kinds[at] & 0xF == c.STT_FUNC)
        starts[home] = sorted([elf.sections[home].sh_size, *map(values.__getitem__, functions)])
    return [
        _ending(trampoline, starts[trampoline.section]) if trampoline.defined else trampoline
        for trampoline in trampolines
    ]


def _ending(trampoline: Trampoline, starts: Sequence[int]) -> Trampoline:
    """The trampoline, which ends where the next of these section offsets is."""
    after = bisect_right(starts, trampoline.value)
    rest = starts[after] - trampoline.value if after < len(starts) else 0
    return trampoline._replace(size=rest) if rest < trampoline.size else trampoline


def is_added(name: str) -> bool:
    """Whether a symbol has the name of code that a rewrite has added."""
    return _ADDED.fullmatch(name) is not None


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of some shell patterns."""
    return any(_compiled(pattern).match(name) for pattern in patterns)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def named(symbols: SymbolTable, pattern: str) -> Iterator[tuple[int, Symbol, str]]:
    """(index, symbol, name) of the symbols whose names match a shell pattern."""
    prefix = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    regex = _compiled(pattern)
    for index in symbols.with_prefix(prefix.encode("utf-8", "surrogateescape")):
        symbol = symbols[index]
        name = symbols.raw_name(symbol.st_name).decode("utf-8", "surrogateescape")
        if name and symbol.type not in _NAMELESS and regex.match(name):
            yield index, symbol, name


def _trampoline(symbols: SymbolTable, index: int, symbol: Symbol, name: str) -> Trampoline:
    section = section_of(symbols, index)
    is_reserved = not section and symbol.st_shndx != c.SHN_UNDEF
    extent = section, symbol.st_value, symbol.st_size
    reserved = symbol.st_shndx if is_reserved else 0
    return Trampoline(name, index, *extent, symbol.st_info, symbol.st_other, reserved)
