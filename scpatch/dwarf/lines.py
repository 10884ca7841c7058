"""Source lines for places in unlinked code.

Only those sequences of .debug_line are decoded that cover a wanted place; pyelftools reads the
headers of their units. Of the other debug sections nothing is read but the file names in question.
The .debug_line of a kernel has many megabytes, .debug_info with its relocations more than ten times
as many.

Debug information is a convenience: if it is missing, compressed or damaged, places have no line,
and nothing here raises.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from scpatch.dwarf.names import LineHeaders
from scpatch.dwarf.opcodes import LineRow, sequences
from scpatch.dwarf.sequences import Address, Unit, find_addresses, sequence_starts
from scpatch.elf import constants as c
from scpatch.elf.encoding import Encoding
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.elf.structures import CodePlace
from scpatch.errors import ScpatchError

LIMIT: Final = 1 << 18
"""Bytes of one sequence that are decoded: four times the longest one in a kernel, so that a forged
unit cannot take all memory. Each byte can become a row of some 150 bytes."""

_SECTION: Final = 1 << 40
"""A place becomes one number for the decoder: section index times this, plus section offset."""


def line_of(elf: ElfFile, places: Sequence[CodePlace]) -> dict[CodePlace, str]:
    """`FILE:LINE` for those of `places` that .debug_line describes.

    FILE is as the compiler wrote it, relative to its working directory if the table allows.
    """
    lines: dict[CodePlace, str] = {}
    if not places:
        return lines
    try:
        for index in elf.sections_named(".debug_line"):
            table = elf.relocations(index)
            if table is not None and not elf.sections[index].sh_flags & c.SHF_COMPRESSED:
                lines.update(_lines(elf, index, table, set(places)))
    except ScpatchError:
        # A table is damaged that only debug information needs.
        return lines
    return lines


def _lines(
    elf: ElfFile, index: int, table: RelaTable, places: set[CodePlace]
) -> Iterator[tuple[CodePlace, str]]:
    """The lines that one .debug_line section gives."""
    data = elf.content(index)
    headers = LineHeaders(elf, index, table)
    addresses = list(find_addresses(elf, index, table))
    for unit, wanted in _by_unit(addresses, places).items():
        header = headers.header(unit)
        if header is None:
            continue
        starts = sequence_starts(data, unit, header.standard_opcode_lengths)
        decoded: dict[int, list[list[LineRow]]] = {}
        for address, place in wanted:
            number = bisect_right(starts, address.at)
            if number not in decoded:
                start, end = starts[number - 1], min(starts[number], starts[number - 1] + LIMIT)
                code = _with_addresses(data[start:end], start, addresses, elf.encoding)
                decoded[number] = list(_decode(code, header, elf.encoding))
            for rows in decoded[number]:
                row = _row_at(rows, _number(*place))
                name = headers.file(unit, row.file) if row and 0 < row.line < 1 << 32 else None
                if row is not None and name is not None:
                    yield place, f"{name}:{row.line}"


def _by_unit(
    addresses: Iterable[Address], places: set[CodePlace]
) -> dict[Unit, list[tuple[Address, CodePlace]]]:
    """Each wanted place with the last address that starts before it, by unit.

    If several addresses start there, as an empty function and the next one do, with all of them.
    """
    sections = {section for section, _ in places}
    starts: dict[CodePlace, list[Address]] = {}
    for address in addresses:
        if address.section in sections:
            starts.setdefault((address.section, address.offset), []).append(address)
    order = sorted(starts)
    units: dict[Unit, list[tuple[Address, CodePlace]]] = {}
    for place in sorted(places):
        before = bisect_right(order, place) - 1
        if before >= 0 and order[before][0] == place[0]:
            for address in starts[order[before]]:
                units.setdefault(address.unit, []).append((address, place))
    return units


def _with_addresses(
    sequence: memoryview, start: int, addresses: Sequence[Address], encoding: Encoding
) -> bytes:
    """The opcodes of a sequence, which starts at `start`, with its addresses filled in."""
    code = bytearray(sequence)
    for address in addresses[bisect_left(addresses, start, key=_at) :]:
        at = address.at - start
        if at + 8 > len(code):
            break
        code[at : at + 8] = encoding.pack(_number(address.section, address.offset), 8)
    return bytes(code)


def _at(address: Address) -> int:
    return address.at


def _decode(code: bytes, header: Any, encoding: Encoding) -> Iterator[list[LineRow]]:
    """The rows of each sequence, by address, the last one its end; none if it is damaged."""
    try:
        for rows in sequences(code, header, encoding):
            yield sorted(rows, key=_address)
    except (IndexError, ValueError, ZeroDivisionError):
        return


def _number(section: int, offset: int) -> int:
    return section * _SECTION + offset


def _address(row: LineRow) -> int:
    return row.address


def _row_at(rows: Sequence[LineRow], address: int) -> LineRow | None:
    """The row that covers an address: the last of those that start there or before it."""
    at = bisect_right(rows, address, key=_address)
    return rows[at - 1] if 0 < at < len(rows) else None
