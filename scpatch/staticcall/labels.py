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
from scpatch.ppc64.relocs import BRANCHES, PC_RELATIVE_DATA, R_PPC64_REL32

Place = tuple[int, int]
"""(section index, section offset)"""

PAIRS = {"__ex_table": 8, "__jump_table": 16}
"""Tables whose entries, of so many bytes, start with (instruction, target): struct
exception_table_entry (arch/powerpc/include/asm/extable.h), struct jump_entry
(include/linux/jump_label.h)."""

MARKS = frozenset(
    {
        "__bug_table",
        "__mcount_loc",
        "__patchable_function_entries",
        "__ftr_fixup",
        "__mmu_ftr_fixup",
        "__lwsync_fixup",
        "__fw_ftr_fixup",
        "__stf_entry_barrier_fixup",
        "__stf_exit_barrier_fixup",
        "__uaccess_flush_fixup",
        "__entry_flush_fixup",
        "__scv_entry_flush_fixup",
        "__rfi_flush_fixup",
        "__barrier_nospec_fixup",
        "__btb_flush_fixup",
        "_kprobe_blacklist",
        ".eh_frame",
        ".static_call_sites",
    }
)
"""Sections of the Linux kernel that only mark instructions: nobody branches to what they name."""

FIXUP = "_fixup"
"""How the names of those end that tell the kernel which instructions to patch when it starts
(arch/powerpc/lib/feature-fixups.c): they name the first of several, or a start and an end."""


class Labels(NamedTuple):
    """Places inside code that relocations point at, by section index."""

    taken: Mapping[int, Sequence[int]]
    """Addresses that code or data holds, so that somebody may branch there: sorted offsets."""
    relative: Mapping[int, Sequence[int]]
    """Like `taken`, by PC-relative data. In a jump table the distance counts from the table's
    start, not from the entry, so such a place may lie some bytes behind the real label."""
    branched: Mapping[int, Sequence[int]]
    """Targets of relocated branches."""
    marked: Mapping[int, Sequence[int]]
    """Instructions that a table names and nobody branches to."""
    patched: Mapping[int, Sequence[int]]
    """Those of `marked` that a `FIXUP` section names."""
    edges: Mapping[int, Sequence[tuple[int, Place]]]
    """(target, from): control may pass from one instruction to another, outside the code's own
    branches; sorted by target, under the target's section."""


def find_labels(elf: ElfFile, sections: set[int]) -> Labels:
    """The labels in the code sections `sections`."""
    kinds = "taken", "relative", "branched", "marked", "patched"
    found: dict[str, dict[int, list[int]]] = {kind: {} for kind in kinds}
    edges: dict[int, list[tuple[int, Place]]] = {}
    homes = _homes(elf, sections)
    for target in elf.relocated:
        flags = elf.section(target, "a SHT_RELA table").sh_flags
        table = elf.relocations(target) if flags & c.SHF_ALLOC else None
        hits = _hits(elf, table, homes) if table is not None else []
        if table is None or not hits:
            continue
        name = elf.section_name(target)
        if name in PAIRS:
            for start, (section, end) in _edges(table, hits, PAIRS[name]):
                if start is None:
                    found["taken"].setdefault(section, []).append(end)
                else:
                    edges.setdefault(section, []).append((end, start))
                    found["marked"].setdefault(start[0], []).append(start[1])
            continue
        for index, (section, offset) in hits:
            kind = "marked"
            if name not in MARKS:
                kind = _meaning(table.r_info[index] & 0xFFFFFFFF)
            elif name.endswith(FIXUP):
                found["patched"].setdefault(section, []).append(offset)
            found[kind].setdefault(section, []).append(offset)
    for by_section in found.values():
        for places in by_section.values():
            places.sort()
    for pairs in edges.values():
        pairs.sort()
    return Labels(**found, edges=edges)


def _homes(elf: ElfFile, sections: set[int]) -> dict[int, int]:
    """Symbol index -> section index, of the symbols in `sections`."""
    return {} if elf.symbols is None else dict(elf.symbols.in_sections(sections))


def _meaning(kind: int) -> str:
    if kind in BRANCHES:
        return "branched"
    return "relative" if kind in PC_RELATIVE_DATA else "taken"


def _hits(elf: ElfFile, table: RelaTable, homes: Mapping[int, int]) -> list[tuple[int, Place]]:
    """(index in the table, place) of the relocations against the symbols in `homes`.

    Those without an addend name a symbol's own place or a section's start; symbols count as
    entries anyway, so they are passed over.
    """
    symbols, named, addends = elf.symbols, table.symbol, table.r_addend
    if symbols is None or homes.keys().isdisjoint(named):
        return []
    hits = [at for at, addend in enumerate(addends) if addend and named[at] in homes]
    values = symbols.st_value
    return [(at, (homes[named[at]], values[named[at]] + addends[at])) for at in hits]


def _edges(
    table: RelaTable, hits: Iterable[tuple[int, Place]], size: int
) -> Iterable[tuple[Place | None, Place]]:
    """The pairs of a table whose entries are `size` bytes and start with two 32-bit words.

    The first half is None where the instruction lies in code that nobody asked about, and for
    every place that a table of another form names.
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
    yield from ((starts.get(entry), end) for entry, end in ends.items())
