"""Source lines for places in unlinked code.

Only those units of .debug_line are decoded, by pyelftools, that describe a wanted place. Of the
other debug sections nothing is read but the file names in question. The .debug_line of a kernel has
many megabytes, .debug_info with its relocations more than ten times as many.

Debug information is a convenience: if it is missing, compressed or damaged, places have no line,
and nothing here raises.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

from scpatch.dwarf.names import file_name, read_program
from scpatch.dwarf.units import LineSection, Unit, number_of
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import CodePlace
from scpatch.errors import ScpatchError


class _Span(NamedTuple):
    """Code of one source line, by `number_of` its places."""

    start: int
    end: int
    file: int
    line: int
    """0 for code that has no source line."""


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
                section = LineSection(elf, index, table)
                for unit, wanted in _by_unit(section, set(places)).items():
                    lines.update(_lines(elf, section, unit, wanted))
    except ScpatchError:
        # A table is damaged that only debug information needs.
        return lines
    return lines


def _by_unit(section: LineSection, places: set[CodePlace]) -> dict[Unit, list[CodePlace]]:
    """Each wanted place under the unit of the last address at or before it.

    If several addresses are there, as of an empty function and the next one, under all of theirs.
    """
    wanted = {index for index, _ in places}
    starts: dict[CodePlace, set[Unit]] = {}
    for address, unit in section.addresses():
        if address[0] in wanted:
            starts.setdefault(address, set()).add(unit)
    order = sorted(starts)
    units: dict[Unit, list[CodePlace]] = {}
    for place in sorted(places):
        before = bisect_right(order, place) - 1
        if before >= 0 and order[before][0] == place[0]:
            for unit in sorted(starts[order[before]]):
                units.setdefault(unit, []).append(place)
    return units


def _lines(
    elf: ElfFile, section: LineSection, unit: Unit, places: Collection[CodePlace]
) -> Iterator[tuple[CodePlace, str]]:
    """The lines that a unit gives for places; none if it is damaged."""
    try:
        program = read_program(section.relocated(unit), unit, elf.encoding)
        spans = _spans(program)
    except ImportError:
        raise
    except Exception:
        # Whatever a decoder meets in damaged input.
        return
    name_of = cache(partial(file_name, elf, program.header, unit.version))
    for place in places:
        number = number_of(place)
        at = bisect_right(spans, number, key=attrgetter("start")) - 1
        if at >= 0 and number < spans[at].end and 0 < spans[at].line < 1 << 32:
            name = name_of(spans[at].file)
            if name is not None:
                yield place, f"{name}:{spans[at].line}"


def _spans(program: Any) -> list[_Span]:
    """What the rows of a line program cover, by address."""
    spans: list[_Span] = []
    rows: list[Any] = []
    states = [entry.state for entry in program.get_entries() if entry.state is not None]
    for number, state in enumerate(states, 1):
        rows.append(state)
        if state.end_sequence or number == len(states):
            # A sequence need not be in order; of rows for one address the last counts.
            rows.sort(key=attrgetter("address"))
            spans += [
                _Span(row.address, after.address, row.file, 0 if row.end_sequence else row.line)
                for row, after in pairwise(rows)
                if row.address < after.address
            ]
            rows.clear()
    return sorted(spans)
