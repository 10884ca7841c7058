"""Finds the stretches of .debug_line that describe given code, without decoding them.

In an unlinked object the operand of every DW_LNE_set_address is relocated by R_PPC64_ADDR64,
against the section of the code or a symbol in it. So the relocations say which line programs are
about which code, and where in the program. Assemblers write one sequence for each section of a
source file, with a DW_LNE_set_address for each function in it.

Source: DWARF 5, section 6.2; psABI section 3.5.3 for the relocations.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

from scpatch.elf.encoding import Encoding
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.errors import ScpatchError

R_PPC64_ADDR32: Final = 1
R_PPC64_ADDR64: Final = 38

_SET_ADDRESS: Final = b"\x00\x09\x02"
"""An extended opcode of 9 bytes, DW_LNE_set_address; the operand follows."""
_LENGTHS: Final = (0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1)
"""Operands of the standard opcodes 1 to 12; DWARF 2 stops at 9."""


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
    """The code that a DW_LNE_set_address is for."""

    section: int
    offset: int
    """Section offset."""
    at: int
    """Where its operand lies: section offset in .debug_line."""
    unit: Unit


class Stretch(NamedTuple):
    """Opcodes from the start of a sequence to behind the last function that is asked for.

    Offsets are section offsets in .debug_line.
    """

    unit: Unit
    start: int
    end: int
    addresses: tuple[Address, ...]
    """Those whose operands lie inside."""
    following: Address | None
    """The next function of the sequence; None where the sequence ends with the stretch."""


def find_units(data: memoryview, encoding: Encoding) -> Iterator[Unit]:
    """The units of a .debug_line section, up to the first one that contradicts itself."""
    start = 0
    while start + 4 <= len(data):
        wide = bytes(data[start : start + 4]) == b"\xff\xff\xff\xff"
        size = 8 if wide else 4
        body = start + (12 if wide else 4)
        end = body + encoding.number(data[body - size : body])
        version = encoding.number(data[body : body + 2])
        # DWARF 5 has address_size and segment_selector_size in front of header_length.
        after = body + (4 if version >= 5 else 2) + size
        program = after + encoding.number(data[after - size : after])
        if not 2 <= version <= 5 or not after <= program <= end <= len(data):
            return
        yield Unit(start, program, end, version, size)
        start = end


def find_addresses(elf: ElfFile, index: int, table: RelaTable) -> Iterator[Address]:
    """Every DW_LNE_set_address of the .debug_line section `index`, which `table` relocates.

    In the order of the section; those whose symbol is damaged are left out.
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


def _resolve(elf: ElfFile, table: RelaTable, entry: int) -> tuple[int, int] | None:
    """(section, section offset) that a relocation stands for; None for a damaged symbol."""
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


def find_stretch(
    ends: Sequence[int], addresses: Sequence[Address], wanted: Sequence[Address]
) -> Stretch:
    """The opcodes that lead to the rows behind each address in `wanted`, all of one sequence.

    `ends` are the ends of the unit's sequences (section offsets), `addresses` all its addresses in
    order.
    """
    unit, last = wanted[0].unit, max(address.at for address in wanted)
    sequence = bisect_right(ends, last)
    start = ends[sequence - 1] if sequence else unit.program
    end = ends[sequence] if sequence < len(ends) else unit.end
    inside = [address for address in addresses if start <= address.at < end]
    following = next((address for address in inside if address.at > last), None)
    if following is not None and following.section == wanted[-1].section:
        end = following.at - len(_SET_ADDRESS)
    else:
        following = None
    return Stretch(unit, start, end, tuple(a for a in inside if a.at < end), following)


def sequence_ends(data: memoryview, unit: Unit, lengths: Sequence[int]) -> list[int]:
    """Where each sequence of a unit ends: section offsets in .debug_line.

    Opcodes are skipped, not decoded; `lengths` is the header's standard_opcode_lengths. What
    follows an opcode that cannot be skipped counts as one sequence, as all of it does where
    `lengths` are not the usual ones.
    """
    if tuple(lengths) != _LENGTHS[: len(lengths)] or len(lengths) < len(_LENGTHS) - 3:
        return []
    program = bytes(data[unit.program : unit.end])
    ends, pattern = [0], _sequence_pattern(len(lengths) + 1)
    while found := pattern.match(program, ends[-1]):
        ends.append(found.end())
    return [unit.program + end for end in ends[1:]]


@cache
def _sequence_pattern(opcode_base: int) -> re.Pattern[bytes]:
    """Matches from the start of a sequence to behind its DW_LNE_end_sequence."""
    leb128 = rb"[\x80-\xff]*+[\x00-\x7f]"
    special = rb"[%b-\xff]" % re.escape(bytes([opcode_base]))
    opcodes = [
        special,
        # copy, negate_stmt, basic_block, const_add_pc; from DWARF 3 on prologue_end, epilogue_begin
        rb"[\x01\x06\x07\x08%b]" % (rb"\x0a\x0b" if opcode_base > 11 else b""),
        # advance_pc, advance_line, set_file, set_column; from DWARF 3 on set_isa
        rb"[\x02-\x05%b]%b" % (rb"\x0c" if opcode_base > 12 else b"", leb128),
        rb"\x09..",
        re.escape(_SET_ADDRESS) + b".{8}",
        # set_discriminator
        *(rb"\x00%b\x04.{%d}" % (re.escape(bytes([size + 1])), size) for size in range(1, 6)),
    ]
    return re.compile(rb"(?>%b)*+\x00\x01\x01" % b"|".join(opcodes), re.DOTALL)
