"""Finds the units of .debug_line that describe given code, without decoding them.

In an unlinked object R_PPC64_ADDR64 relocates the operand of every DW_LNE_set_address, against the
section of the code or a symbol in it. So the relocations say which line program describes which
code.

Source: DWARF 5, section 6.2; psABI section 3.5.3 for the relocations.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

from scpatch.elf.encoding import Encoding
from scpatch.elf.reader import ElfFile
from scpatch.elf.relocations import RelaTable
from scpatch.elf.structures import CodePlace
from scpatch.errors import ScpatchError

_R_PPC64_ADDR32, _R_PPC64_ADDR64 = 1, 38
_SIZES: Final = {_R_PPC64_ADDR32: 4, _R_PPC64_ADDR64: 8}
_SET_ADDRESS: Final = b"\x00\x09\x02"
"""An extended opcode of 9 bytes, DW_LNE_set_address; the operand follows."""
_SECTION: Final = 1 << 40


def number_of(place: CodePlace) -> int:
    """A place as one number for the decoder."""
    section, offset = place
    return section * _SECTION + offset


class Unit(NamedTuple):
    """One line program with its header. Offsets are section offsets in .debug_line."""

    start: int
    program: int
    """The first opcode."""
    end: int
    version: int
    offset_size: int
    """4 or 8 bytes: the 32-bit or the 64-bit DWARF format."""


def find_units(data: memoryview, encoding: Encoding) -> Iterator[Unit]:
    """The units of a .debug_line section, up to the first that contradicts itself."""
    start = 0
    while start + 4 <= len(data):
        wide = bytes(data[start : start + 4]) == b"\xff\xff\xff\xff"
        size = 8 if wide else 4
        body = start + (12 if wide else 4)
        end = body + encoding.number(data[body - size : body])
        version = encoding.number(data[body : body + 2])
        # DWARF 5 has address_size and segment_selector_size before header_length.
        after = body + (4 if version >= 5 else 2) + size
        program = after + encoding.number(data[after - size : after])
        if not 2 <= version <= 5 or not after <= program <= end <= len(data):
            return
        yield Unit(start, program, end, version, size)
        start = end


class LineSection:
    """A .debug_line section and its relocations."""

    def __init__(self, elf: ElfFile, index: int, table: RelaTable) -> None:
        self._elf = elf
        self._data = elf.content(index)
        self._table = table
        self._order = sorted(zip(table.r_offset, range(len(table)), strict=True))
        """(section offset, index in the table) of each relocation."""

    def addresses(self) -> Iterator[tuple[CodePlace, Unit]]:
        """What each DW_LNE_set_address names, and its unit; not those with a damaged symbol."""
        for unit in find_units(self._data, self._elf.encoding):
            for at, entry in self._relocations(unit.program, unit.end):
                place = self._address(at, entry)
                if place is not None:
                    yield place, unit

    def relocated(self, unit: Unit) -> bytes:
        """The bytes of a unit, with the offsets of its strings filled in, and for each address the
        `number_of` its place.

        Raises IndexError, OverflowError or ScpatchError for damaged relocations.
        """
        content = bytearray(self._data[unit.start : unit.end])
        symbols = self._elf.symbols
        for at, entry in self._relocations(unit.start, unit.end):
            relocation = self._table[entry]
            size = _SIZES.get(relocation.type)
            if at >= unit.program:
                place = self._address(at, entry)
                value = number_of(place) if place is not None else None
            elif unit.version >= 5 and symbols is not None:
                value = symbols[relocation.symbol].st_value + relocation.r_addend
            else:
                value = None
            if size is not None and value is not None:
                start = at - unit.start
                if start + size > len(content):
                    raise IndexError("a relocation reaches past its unit")
                content[start : start + size] = self._elf.encoding.pack(value, size)
        return bytes(content)

    def _relocations(self, start: int, end: int) -> list[tuple[int, int]]:
        return self._order[bisect_left(self._order, (start,)) : bisect_left(self._order, (end,))]

    def _address(self, at: int, entry: int) -> CodePlace | None:
        """What a relocation names, if it relocates a DW_LNE_set_address; None for a damaged
        symbol."""
        symbols, relocation = self._elf.symbols, self._table[entry]
        opcode = bytes(self._data[max(at - len(_SET_ADDRESS), 0) : at])
        if symbols is None or relocation.type != _R_PPC64_ADDR64 or opcode != _SET_ADDRESS:
            return None
        try:
            section = symbols.section_index(relocation.symbol)
            offset = symbols[relocation.symbol].st_value + relocation.r_addend
        except ScpatchError:
            return None
        sections = self._elf.sections
        inside = 0 < section < len(sections) and 0 <= offset <= sections[section].sh_size
        return (section, offset) if inside else None
