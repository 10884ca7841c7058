"""The functions that an object defines for others, and what a call of them does to r2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Symbol
from scpatch.elf.symtab import SymbolTable
from scpatch.saved.other_calls import preserves_r2
from scpatch.sites.symbols import find_trampolines


class Definitions(NamedTuple):
    """Names that objects define for others. A weak function that preserves r2 is in neither set:
    the link may take another one, and need not."""

    functions: frozenset[str]
    """A call of one returns with r2 as it was."""
    others: frozenset[str]
    """A call of one may not: trampolines, functions without a local entry point, IFUNC, data."""


def image_functions(parts: Iterable[Definitions]) -> frozenset[str]:
    """The functions of an image that preserve r2, by the definitions of all that it is linked from.

    Of several definitions the linker takes any: the first strong one, and a member of a library
    only if nobody else has the name. So all of them must preserve r2.
    """
    functions: set[str] = set()
    others: set[str] = set()
    for part in parts:
        functions |= part.functions
        others |= part.others
    return frozenset(functions - others)


def definitions(elf: ElfFile, patterns: Sequence[str]) -> Definitions:
    """What an object defines; `patterns` are those of trampolines, under any of their names."""
    functions: set[str] = set()
    others: set[str] = set()
    if elf.symbols is not None:
        trampolines = find_trampolines(elf.symbols, patterns)
        places = {(it.section, it.value) for it in trampolines if it.section}
        for index, symbol, name in _for_others(elf.symbols, elf, defined=True):
            home = elf.symbols.section_index(index)
            if (home, symbol.st_value) in places or not preserves_r2(elf, symbol, home):
                others.add(name)
            elif symbol.binding == c.STB_GLOBAL:
                functions.add(name)
    return Definitions(frozenset(functions), frozenset(others))


def undefined(elf: ElfFile) -> set[str]:
    """The names that an object takes from others."""
    if elf.symbols is None:
        return set()
    return {name for _, _, name in _for_others(elf.symbols, elf, defined=False)}


def _for_others(
    symbols: SymbolTable, elf: ElfFile, *, defined: bool
) -> Iterator[tuple[int, Symbol, str]]:
    """(index, symbol, name) of the symbols that are not local, which come last."""
    first = elf.sections[symbols.index].sh_info
    entries = symbols.encoding.symbol.iter_unpack(symbols.data[first * c.SYM_SIZE :])
    for index, symbol in enumerate(map(Symbol._make, entries), first):
        if (symbol.st_shndx != c.SHN_UNDEF) != defined:
            continue
        name = symbols.raw_name(symbol.st_name).decode("utf-8", "surrogateescape")
        yield index, symbol, name
