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
from scpatch.sites.model import Callee, Stub, Trampoline

_LOADED = c.SHF_ALLOC | c.SHF_EXECINSTR


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
    """Every branch relocation that leads to one of the callees: by its own symbol, or by any other
    symbol of its section and an addend.

    Raises SCP121 for one in a section that is loaded and not marked as executable: the kernel may
    copy it to code, as it does with `__ftr_alt_*`.
    """
    callees = _Callees(elf, [*trampolines, *stubs])
    for section in elf.relocated:
        table = elf.relocations(section) if elf.sections[section].sh_flags & _LOADED else None
        if table is None:
            continue
        for index, callee, displaced in callees.called(table):
            offset = table.r_offset[index]
            if not elf.is_code(section):
                where = f"{elf.section_name(section)}+{offset:#x}"
                what = "a call in a section that is not executable"
                raise ScpatchError("SCP121", what, file=elf.name, where=where)
            yield Reference(section, offset, callee, displaced, table, index)


class _Callees:
    """What branches may lead to."""

    def __init__(self, elf: ElfFile, callees: Sequence[Callee]) -> None:
        self._by_symbol = {callee.symbol: callee for callee in callees}
        self._places = _Places(callees)
        self._bases = _bases(elf, {callee.section for callee in callees} - {0})
        others = (symbol for symbol, base in self._bases.items() if self._places.may_lead(base))
        # One look-up of its symbol in this set is all that most relocations cost.
        self._named = {*self._by_symbol, *others}

    def called(self, table: RelaTable) -> Iterator[tuple[int, Callee, bool]]:
        """(index in the table, callee, whether it goes elsewhere than to an entry point) of each
        branch to a callee."""
        named, bases, addends = self._named, self._bases, table.r_addend
        for index, symbol in enumerate(table.symbol):
            if symbol not in named and not (addends[index] and symbol in bases):
                continue
            if table.r_info[index] & 0xFFFFFFFF not in BRANCHES:
                continue
            callee, displaced = self._by_symbol.get(symbol), addends[index] != 0
            if callee is None:
                section, start = bases[symbol]
                callee = self._places.find(section, start + addends[index])
                displaced = callee is not None and not _is_entry(callee, start + addends[index])
            if callee is not None:
                yield index, callee, displaced


Base = tuple[int, int]
"""(section index, section offset)"""


def _bases(elf: ElfFile, sections: set[int]) -> dict[int, Base]:
    """Symbol index -> what an addend counts from, for the symbols in `sections`."""
    symbols = elf.symbols
    if symbols is None or not sections:
        return {}
    values = symbols.st_value
    return {symbol: (section, values[symbol]) for symbol, section in symbols.in_sections(sections)}


class _Places:
    """Callees by where they lie."""

    def __init__(self, callees: Iterable[Callee]) -> None:
        self._sections: dict[int, list[tuple[int, int, Callee]]] = {}
        for index, one in enumerate(callees):
            if one.section:
                self._sections.setdefault(one.section, []).append((one.value, index, one))
        for entries in self._sections.values():
            entries.sort()

    def may_lead(self, base: Base) -> bool:
        """Whether a branch without an addend leads to a callee, or one whose addend may be
        anything, since it names the start of a section."""
        return not base[1] or self.find(*base) is not None

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
