"""The functions that an object defines for others, and what a call of them does to r2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.functions import section_of
from scpatch.elf.reader import ElfFile
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
    symbols = elf.symbols
    if symbols is None:
        return Definitions(frozenset(), frozenset())
    trampolines = find_trampolines(symbols, patterns)
    places = {(it.section, it.value) for it in trampolines if it.section}
    functions: set[str] = set()
    others: set[str] = set()
    for index in range(elf.sections[symbols.index].sh_info, len(symbols)):
        if symbols.st_shndx[index] == c.SHN_UNDEF:
            continue
        keeps = preserves_r2(elf, index)
        if keeps and places:
            keeps = (section_of(symbols, index), symbols.st_value[index]) not in places
        if not keeps:
            others.add(symbols.name(index))
        elif symbols.st_info[index] >> 4 == c.STB_GLOBAL:
            functions.add(symbols.name(index))
    return Definitions(frozenset(functions), frozenset(others))


def undefined(elf: ElfFile) -> set[str]:
    """The names that an object takes from others."""
    symbols = elf.symbols
    if symbols is None:
        return set()
    return {
        symbols.name(index)
        for index in range(elf.sections[symbols.index].sh_info, len(symbols))
        if symbols.st_shndx[index] == c.SHN_UNDEF
    }
