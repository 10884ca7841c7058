"""Source lines for places in unlinked code.

Only those sequences of .debug_line are decoded that cover a wanted place, and no further than that;
pyelftools reads their headers. Of the other debug sections nothing is read but the file names in
question. The .debug_line of a kernel has many megabytes, .debug_info with its relocations more than
ten times as many.

Debug information is a convenience: where it is missing, compressed or damaged, places go without
a line, and nothing here raises.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from scpatch.dwarf.names import LineHeaders
from scpatch.dwarf.opcodes import LineRow, sequences
from scpatch.dwarf.sequences import (
    Address,
    Stretch,
    Unit,
    find_addresses,
    find_stretch,
    sequence_ends,
)
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
    """`FILE:LINE` for those of `places` that .debug_line tells about.

    FILE is as the compiler wrote it, relative to its working directory where the table allows.
    """
    if not places:
        return {}
    found: dict[CodePlace, str] = {}
    try:
        for index in elf.sections_named(".debug_line"):
            table = elf.relocations(index)
            if table is not None and not elf.sections[index].sh_flags & c.SHF_COMPRESSED:
                found |= _lines(elf, index, table, set(places))
    except ScpatchError:
        # A table is damaged that only debug information needs.
        return found
    return found


def _lines(
    elf: ElfFile, index: int, table: RelaTable, places: set[CodePlace]
) -> dict[CodePlace, str]:
    """The lines that one .debug_line section gives."""
    data = elf.content(index)
    found: dict[CodePlace, str] = {}
    names = LineHeaders(elf, index, table)
    addresses = list(find_addresses(elf, index, table))
    for unit, chosen in _by_unit(addresses, places):
        header = names.header(unit)
        if header is None:
            continue
        first = bisect_left(addresses, unit.start, key=_at)
        inside = addresses[first : bisect_left(addresses, unit.end, key=_at)]
        for stretch, wanted in _stretches(data, header, inside, chosen):
            for rows in _decode(data, stretch, header, elf.encoding):
                for place in wanted:
                    row = _row_at(rows, place[0] * _SECTION + place[1])
                    name = names.file(unit, row.file) if row and 0 < row.line < 1 << 32 else None
                    if row is not None and name is not None:
                        found[place] = f"{name}:{row.line}"
    return found


def _at(address: Address) -> int:
    return address.at


def _by_unit(
    addresses: Iterable[Address], places: set[CodePlace]
) -> Iterator[tuple[Unit, list[tuple[Address, CodePlace]]]]:
    """Each wanted place with the address that starts last before it, by unit.

    With all of them where several start together, as an empty function and the next one do.
    """
    sections = {section for section, _ in places}
    starts: dict[CodePlace, list[Address]] = {}
    for address in addresses:
        if address.section in sections:
            starts.setdefault((address.section, address.offset), []).append(address)
    order = sorted(starts)
    chosen: dict[Unit, list[tuple[Address, CodePlace]]] = {}
    for place in sorted(places):
        before = bisect_right(order, place) - 1
        if before >= 0 and order[before][0] == place[0]:
            for address in starts[order[before]]:
                chosen.setdefault(address.unit, []).append((address, place))
    yield from chosen.items()


def _stretches(
    data: memoryview,
    header: Any,
    addresses: Sequence[Address],
    chosen: Sequence[tuple[Address, CodePlace]],
) -> Iterator[tuple[Stretch, list[CodePlace]]]:
    """What is to be decoded of one unit, with the places that it covers."""
    unit = chosen[0][0].unit
    ends = sequence_ends(data, unit, header.standard_opcode_lengths)
    sequences: dict[int, list[tuple[Address, CodePlace]]] = {}
    for address, place in chosen:
        sequences.setdefault(bisect_right(ends, address.at), []).append((address, place))
    for inside in sequences.values():
        wanted = [address for address, _ in inside]
        yield find_stretch(ends, addresses, wanted), [place for _, place in inside]


def _decode(
    data: memoryview, stretch: Stretch, header: Any, encoding: Encoding
) -> Iterator[list[LineRow]]:
    """The rows of each sequence, by address, the last one its end; nothing where it is damaged."""
    code = bytearray(data[stretch.start : min(stretch.end, stretch.start + LIMIT)])
    for address in stretch.addresses:
        at = address.at - stretch.start
        if at + 8 <= len(code):
            code[at : at + 8] = encoding.pack(_number(address), 8)
    try:
        found = list(sequences(bytes(code), header, encoding))
    except (IndexError, ValueError, ZeroDivisionError):
        # Damaged input: there is no line then.
        return
    if stretch.following is not None:
        found[-1].append(LineRow(_number(stretch.following), 0, 0))
    for rows in found:
        yield sorted(rows, key=_address)


def _number(address: Address) -> int:
    return address.section * _SECTION + address.offset


def _address(row: LineRow) -> int:
    return row.address


def _row_at(rows: Sequence[LineRow], address: int) -> LineRow | None:
    """The row that covers an address: the last of those that start there or before it."""
    at = bisect_right(rows, address, key=_address)
    return rows[at - 1] if 0 < at < len(rows) else None
