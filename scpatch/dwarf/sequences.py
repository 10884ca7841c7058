"""Finds the sequences of .debug_line that describe given code, without decoding them.

In an unlinked object R_PPC64_ADDR64 relocates the operand of every DW_LNE_set_address, against the
section of the code or a symbol in it. So the relocations say which line program describes which
code, and where in the program. Assemblers write one sequence for each section of a source file,
with a DW_LNE_set_address for each function in it.

Source: DWARF 5, section 6.2; psABI section 3.5.3 for the relocations.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

from scpatch.elf.encoding import Encoding
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.elf.structures import CodePlace
from scpatch.errors import ScpatchError

R_PPC64_ADDR32: Final = 1
R_PPC64_ADDR64: Final = 38

_SET_ADDRESS: Final = b"\x00\x09\x02"
"""An extended opcode of 9 bytes, DW_LNE_set_address; the operand follows."""
_FIXED_ADVANCE_PC: Final = 9
"""The standard opcode whose operand is two bytes, not a LEB128 number."""


class Unit(NamedTuple):
    """One line program with its header. Offsets are section offsets in .debug_line."""

    start: int
    program: int
    """The first opcode."""
    end: int
    version: int
    offset_size: int
    """4 or 8 bytes: the 32-bit or the 64-bit DWARF format."""


class Address(NamedTuple):
    """A DW_LNE_set_address, and the code that it names."""

    section: int
    offset: int
    """Section offset."""
    at: int
    """Section offset of its operand in .debug_line."""
    unit: Unit


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


def find_addresses(elf: ElfFile, index: int, table: RelaTable) -> Iterator[Address]:
    """Every DW_LNE_set_address of the .debug_line section `index`, which `table` relocates.

    In the order of the section, without those whose symbol is damaged.
    """
    data = elf.content(index)
    operands = sorted(
        (at, entry)
        for entry, (at, info) in enumerate(zip(table.r_offset, table.r_info, strict=True))
        if info & 0xFFFFFFFF == R_PPC64_ADDR64
    )
    for unit in find_units(data, elf.encoding):
        first = bisect_left(operands, (unit.program + len(_SET_ADDRESS), 0))
        last = bisect_left(operands, (unit.end - 7, 0))
        for at, entry in operands[first:last]:
            place = _resolve(elf, table, entry)
            code = bytes(data[at - len(_SET_ADDRESS) : at])
            if place is not None and code == _SET_ADDRESS:
                yield Address(*place, at, unit)


def _resolve(elf: ElfFile, table: RelaTable, entry: int) -> CodePlace | None:
    """What a relocation refers to; None for a damaged symbol."""
    symbols, relocation = elf.symbols, table[entry]
    if symbols is None:
        return None
    try:
        section = symbols.section_index(relocation.symbol)
        offset = symbols[relocation.symbol].st_value + relocation.r_addend
    except ScpatchError:
        return None
    inside = 0 < section < len(elf.sections) and 0 <= offset <= elf.sections[section].sh_size
    return (section, offset) if inside else None


def sequence_starts(data: memoryview, unit: Unit, lengths: Sequence[int]) -> list[int]:
    """Where each sequence of a unit starts, and where the last one ends: section offsets in
    .debug_line.

    Opcodes are skipped, not decoded; `lengths` is the header's standard_opcode_lengths. What
    follows an opcode that cannot be skipped counts as one sequence.
    """
    program = bytes(data[unit.program : unit.end])
    starts, pattern = [0], _sequence_pattern(tuple(lengths))
    while match := pattern.match(program, starts[-1]):
        starts.append(match.end())
    if starts[-1] < len(program):
        starts.append(len(program))
    return [unit.program + start for start in starts]


@cache
def _sequence_pattern(lengths: tuple[int, ...]) -> re.Pattern[bytes]:
    """Matches from the start of a sequence to the end of its DW_LNE_end_sequence."""
    leb128 = rb"[\x80-\xff]*+[\x00-\x7f]"
    special = rb"[%b-\xff]" % re.escape(bytes([len(lengths) + 1]))
    standard = [
        re.escape(bytes([opcode])) + (b".." if opcode == _FIXED_ADVANCE_PC else leb128 * operands)
        for opcode, operands in enumerate(lengths, 1)
    ]
    # DW_LNE_set_discriminator
    other = [rb"\x00%b\x04.{%d}" % (re.escape(bytes([size + 1])), size) for size in range(1, 6)]
    opcodes = [special, *standard, re.escape(_SET_ADDRESS) + b".{8}", *other]
    return re.compile(rb"(?>%b)*+\x00\x01\x01" % b"|".join(opcodes), re.DOTALL)
