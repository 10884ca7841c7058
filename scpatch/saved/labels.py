"""Where control can arrive inside functions, other than by falling or branching there directly.

Relocations of allocated sections that point into code, sorted by what they mean: an edge from one
instruction to another (exception table, jump label), a mere mark on an instruction, or an address
that somebody may branch to (a jump table, a computed goto, a return address).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.linux.patched import FIXUPS, WORDS, Range, merged
from scpatch.ppc64.relocs import (
    BRANCHES,
    MARKERS,
    PC_RELATIVE_CODE,
    PC_RELATIVE_DATA,
    R_PPC64_ADDR64,
    R_PPC64_REL32,
)
from scpatch.saved.jump_tables import Relative, find_places

Place = tuple[int, int]
"""(section index, section offset)"""

PAIRS = {"__ex_table": 8, "__jump_table": 16}
"""Tables whose entries, of so many bytes, start with (instruction, target): struct
exception_table_entry (arch/powerpc/include/asm/extable.h), struct jump_entry
(include/linux/jump_label.h)."""

MARKS = FIXUPS | {
    "__bug_table",
    "__mcount_loc",
    "__patchable_function_entries",
    "__soft_mask_table",
    "_kprobe_blacklist",
    ".eh_frame",
    ".static_call_sites",
}
"""Sections of the Linux kernel that only mark instructions: nobody branches to what they name."""
DISCARDED = ".discard"
"""So begin the names of sections that the kernel's linker scripts throw away."""

RESTARTS = "__restart_table"
"""Entries of three addresses, a start, an end, and where an interrupt in between returns to (struct
restart_table_entry, arch/powerpc/lib/restart_table.c)."""
_RESTART_ENTRY, _RESTART_TARGET = 24, 16


class Labels(NamedTuple):
    """Places inside code that relocations point at, by section index."""

    taken: Mapping[int, Sequence[int]]
    """Addresses that code or data holds, so that somebody may branch there: sorted offsets."""
    possible: Mapping[int, Sequence[Range]]
    """Where further such places may be, which a distance from an unknown place does not tell."""
    branched: Mapping[int, Sequence[int]]
    """Targets of relocated branches."""
    marked: Mapping[int, Sequence[int]]
    """Instructions that a table names and nobody branches to."""
    changed: Mapping[int, Sequence[int]]
    """Those that the kernel patches while it runs."""
    edges: Mapping[int, Sequence[tuple[int, Place]]]
    """(target, from): control may pass from one instruction to another, outside the code's own
    branches; sorted by target, under the target's section."""


def find_labels(elf: ElfFile, sections: set[int]) -> Labels:
    """The labels in the code sections `sections`."""
    kinds = "taken", "branched", "marked", "changed"
    found: dict[str, dict[int, list[int]]] = {kind: {} for kind in kinds}
    edges: dict[int, list[tuple[int, Place]]] = {}
    relative: list[Relative] = []
    homes = _homes(elf, sections)
    words = {index for name in WORDS for index in elf.sections_named(name)}
    for target in elf.relocated:
        flags = elf.section(target, "a SHT_RELA table").sh_flags
        table = elf.relocations(target) if flags & c.SHF_ALLOC else None
        hits = _hits(table, homes, elf, every=target in words) if table is not None else []
        if table is None or not hits:
            continue
        name = elf.section_name(target)
        if name in PAIRS:
            _pairs(name, table, hits, found, edges)
            continue
        for index, (section, offset) in hits:
            kind, at = table.r_info[index] & 0xFFFFFFFF, table.r_offset[index]
            meaning = _meaning(name, kind, at)
            if meaning == "relative":
                relative.append(Relative(target, at, kind, section, offset))
            else:
                found[meaning].setdefault(section, []).append(offset)
            if name in WORDS:
                found["changed"].setdefault(section, []).append(offset)
    possible: dict[int, list[Range]] = {}
    for section, where in find_places(elf, relative):
        if isinstance(where, Range):
            possible.setdefault(section, []).append(where)
        else:
            found["taken"].setdefault(section, []).append(where)
    for by_section in found.values():
        for places in by_section.values():
            places.sort()
    for pairs in edges.values():
        pairs.sort()
    return Labels(**found, possible=merged(possible), edges=edges)


def _meaning(name: str, kind: int, at: int) -> str:
    """What a relocation at the offset `at` of a section says about the place that it names."""
    if name in MARKS or name.startswith(DISCARDED):
        return "marked"
    if name == RESTARTS and kind == R_PPC64_ADDR64 and at % _RESTART_ENTRY != _RESTART_TARGET:
        return "marked"
    if kind in BRANCHES:
        return "branched"
    if kind in MARKERS:
        return "marked"
    return "relative" if kind in PC_RELATIVE_DATA or kind in PC_RELATIVE_CODE else "taken"


def _homes(elf: ElfFile, sections: set[int]) -> dict[int, int]:
    """Symbol index -> section index, of the symbols in `sections`."""
    return {} if elf.symbols is None else dict(elf.symbols.in_sections(sections))


def _hits(
    table: RelaTable, homes: Mapping[int, int], elf: ElfFile, *, every: bool
) -> list[tuple[int, Place]]:
    """(index in the table, place) of the relocations against the symbols in `homes`.

    Those without an addend name a symbol's own place or a section's start; symbols count as
    entries anyway, so they are passed over where not `every` one is wanted.
    """
    symbols, named, addends, info = elf.symbols, table.symbol, table.r_addend, table.r_info
    if symbols is None or homes.keys().isdisjoint(named):
        return []
    hits = [
        at
        for at, symbol in enumerate(named)
        if symbol in homes and (addends[at] or every or info[at] & 0xFFFFFFFF in PC_RELATIVE_DATA)
    ]
    values = symbols.st_value
    return [(at, (homes[named[at]], values[named[at]] + addends[at])) for at in hits]


def _pairs(
    name: str,
    table: RelaTable,
    hits: Sequence[tuple[int, Place]],
    found: Mapping[str, dict[int, list[int]]],
    edges: dict[int, list[tuple[int, Place]]],
) -> None:
    """Adds what one of `PAIRS` says."""
    for start, end in _edges(table, hits, PAIRS[name]):
        if start is not None:
            found["marked"].setdefault(start[0], []).append(start[1])
        if end is not None and start is not None:
            edges.setdefault(end[0], []).append((end[1], start))
        elif end is not None:
            found["taken"].setdefault(end[0], []).append(end[1])
        place = start or end
        if name in WORDS and place is not None:
            found["changed"].setdefault(place[0], []).append(place[1])


def _edges(
    table: RelaTable, hits: Iterable[tuple[int, Place]], size: int
) -> Iterable[tuple[Place | None, Place | None]]:
    """The pairs of a table whose entries are `size` bytes and start with two 32-bit words.

    A half is None where it lies in code that nobody asked about, and the first one for every place
    that a table of another form names.
    """
    starts: dict[int, Place] = {}
    ends: dict[int, Place] = {}
    for index, place in hits:
        entry, field_offset = divmod(table.r_offset[index], size)
        if table.r_info[index] & 0xFFFFFFFF != R_PPC64_REL32 or field_offset not in (0, 4):
            yield None, place
        elif field_offset == 0:
            starts[entry] = place
        else:
            ends[entry] = place
    yield from ((starts.get(entry), ends.get(entry)) for entry in {**starts, **ends})
