"""Finds the call sites of an object: every branch whose relocation names a trampoline or a stub.

What the assembler has resolved itself, without a relocation, is in `resolved`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.errors import ScpatchError
from scpatch.ppc64.relocs import BRANCHES
from scpatch.staticcall.model import Stub, Trampoline

Callee = Trampoline | Stub


class Reference(NamedTuple):
    """A branch to a trampoline or a stub."""

    section: int
    offset: int
    """Section offset of the branch."""
    callee: Callee
    displaced: bool
    """It does not lead to the start of `callee`: the call has an addend."""
    table: RelaTable | None
    """The relocations of the section."""
    position: int
    """Index of the branch's own relocation in the table; -1 if it has none."""

    @property
    def resolved(self) -> bool:
        """The assembler has written the distance into the branch."""
        return self.position < 0


def find_references(
    elf: ElfFile, trampolines: Sequence[Trampoline], stubs: Sequence[Stub]
) -> Iterator[Reference]:
    """Every branch relocation against one of the callees, by symbol or by section and addend."""
    callees: list[Callee] = [*trampolines, *stubs]
    by_symbol: dict[int, Callee] = {callee.symbol: callee for callee in callees}
    by_section = _section_symbols(elf, {callee.section for callee in callees} - {0})
    # One look-up of its symbol in this set is all that most relocations cost.
    named = {*by_symbol, *by_section}
    places = _Places(callees)
    for section in elf.code_sections():
        table = elf.relocations(section)
        if table is None or named.isdisjoint(table.symbol):
            continue
        for index in [at for at, symbol in enumerate(table.symbol) if symbol in named]:
            if table.r_info[index] & 0xFFFFFFFF not in BRANCHES:
                continue
            symbol, addend = table.symbol[index], table.r_addend[index]
            callee, displaced = by_symbol.get(symbol), addend != 0
            if callee is None:
                callee = places.find(by_section[symbol], addend)
                displaced = callee is not None and not _is_entry(callee, addend)
            if callee is not None:
                offset = table.r_offset[index]
                yield Reference(section, offset, callee, displaced, table, index)


def check_elsewhere(elf: ElfFile, callees: Iterable[Callee]) -> None:
    """Raises SCP121 for a call of one of the callees in a section that is loaded and not marked
    as executable: the kernel may copy it to code, as it does with `__ftr_alt_*`."""
    named = {callee.symbol for callee in callees}
    for section in elf.relocated:
        if not elf.sections[section].sh_flags & c.SHF_ALLOC or elf.is_code(section):
            continue
        table = elf.relocations(section)
        if table is None or named.isdisjoint(table.symbol):
            continue
        for index, symbol in enumerate(table.symbol):
            if symbol in named and table.r_info[index] & 0xFFFFFFFF in BRANCHES:
                where = f"{elf.section_name(section)}+{table.r_offset[index]:#x}"
                what = "a call in a section that is not executable"
                raise ScpatchError("SCP121", what, file=elf.name, where=where)


def _section_symbols(elf: ElfFile, sections: Iterable[int]) -> dict[int, int]:
    """Symbol index -> section index, for the STT_SECTION symbols of `sections`."""
    symbols, wanted = elf.symbols, set(sections)
    if symbols is None:
        return {}
    found = {}
    for index, info in enumerate(symbols.st_info):
        if info & 0xF == c.STT_SECTION:
            section = symbols.section_index(index)
            if section in wanted:
                found[index] = section
    return found


class _Places:
    """Callees by where they lie."""

    def __init__(self, callees: Iterable[Callee]) -> None:
        self._sections: dict[int, list[tuple[int, int, Callee]]] = {}
        for index, one in enumerate(callees):
            if one.section:
                self._sections.setdefault(one.section, []).append((one.value, index, one))
        for entries in self._sections.values():
            entries.sort()

    def find(self, section: int, offset: int) -> Callee | None:
        """The callee that starts at an offset or covers it."""
        entries = self._sections[section]
        at = bisect_right(entries, (offset, len(entries) << 32)) - 1
        if at < 0:
            return None
        callee = entries[at][2]
        return callee if offset < callee.value + max(callee.size, 4) else None


def _is_entry(callee: Callee, offset: int) -> bool:
    entries = (callee.value,) if isinstance(callee, Stub) else (callee.value, callee.local_entry)
    return offset in entries
