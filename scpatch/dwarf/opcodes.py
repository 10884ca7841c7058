"""Runs the opcodes of a line program: the state machine of DWARF 5, section 6.2.

Only the registers address, file and line are modelled. A decoder that has them all, and a copy for
each row, takes 20 times as long, which for the call sites of a kernel is ten seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from scpatch.elf.encoding import Encoding

_END_SEQUENCE, _SET_ADDRESS = 1, 2
_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE = 1, 2, 3, 4
_CONST_ADD_PC, _FIXED_ADVANCE_PC = 8, 9
_LONGEST: Final = 10
"""Bytes of a LEB128 number of 64 bits."""


class LineRow(NamedTuple):
    """A row of the line table: from `address` on, up to the next row, code is of this line."""

    address: int
    file: int
    line: int
    """0 for code that has no source line, and for the end of a sequence."""


def sequences(code: bytes, header: Any, encoding: Encoding) -> Iterator[list[LineRow]]:
    """The rows of each sequence in `code`; the last one may lack its end.

    `header` is the unit's. Raises IndexError for code that ends inside an opcode, ValueError for a
    number that no assembler writes.
    """
    unit, lengths = header.minimum_instruction_length, header.standard_opcode_lengths
    advances = _advances(header)
    at, rows = 0, list[LineRow]()
    address, file, line = 0, 1, 1
    while at < len(code):
        op = code[at]
        at += 1
        if (advance := advances.get(op)) is not None:
            address += advance[0]
            line += advance[1]
            rows.append(LineRow(address, file, line))
        elif op == 0:
            length, at = _leb128(code, at)
            if code[at] == _SET_ADDRESS:
                address = encoding.number(code[at + 1 : at + length])
            elif code[at] == _END_SEQUENCE:
                yield [*rows, LineRow(address, file, 0)]
                rows, address, file, line = [], 0, 1, 1
            at += length
        elif op == _CONST_ADD_PC:
            address += advances[255][0]
        elif op == _FIXED_ADVANCE_PC:
            address += encoding.number(code[at : at + 2])
            at += 2
        elif op == _ADVANCE_PC:
            value, at = _leb128(code, at)
            address += value * unit
        elif op == _ADVANCE_LINE:
            value, at = _leb128(code, at, signed=True)
            line += value
        elif op == _SET_FILE:
            file, at = _leb128(code, at)
        else:
            for _ in range(lengths[op - 1]):
                _, at = _leb128(code, at)
    yield rows


def _advances(header: Any) -> dict[int, tuple[int, int]]:
    """What each opcode that makes a row adds to address and line: DW_LNS_copy, special ones."""
    special = {
        header.opcode_base + number: (
            number // header.line_range * header.minimum_instruction_length,
            header.line_base + number % header.line_range,
        )
        for number in range(256 - header.opcode_base)
    }
    return {_COPY: (0, 0)} | special


def _leb128(code: bytes, at: int, *, signed: bool = False) -> tuple[int, int]:
    """(value, offset after it)"""
    value = 0
    for size in range(_LONGEST):
        byte = code[at + size]
        value |= (byte & 0x7F) << 7 * size
        if byte < 0x80:
            if signed and byte & 0x40:
                value -= 1 << 7 * (size + 1)
            return value, at + size + 1
    raise ValueError("a LEB128 number of more than 64 bits")
