"""Where control can arrive inside functions, other than by falling or branching there directly.

Relocations of allocated sections that point into code, sorted by what they mean: an edge from one
instruction to another (exception table, jump label), a mere mark on an instruction, or an address
that somebody may branch to (a jump table, a computed goto, a return address).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.ppc64.relocs import BRANCHES, PC_RELATIVE_DATA

Place = tuple[int, int]
"""(section index, section offset)"""

PAIRS = frozenset({"__ex_table", "__jump_table"})
"""Tables of (instruction, target) that start each entry: struct exception_table_entry
(arch/powerpc/include/asm/extable.h) and struct jump_entry (include/linux/jump_label.h)."""

_ENTRY_SIZE = {"__ex_table": 8, "__jump_table": 16}

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


@dataclass(frozen=True, slots=True)
class Labels:
    """Places inside code that relocations point at."""

    taken: frozenset[Place] = frozenset()
    """Addresses that code or data holds, so that somebody may branch there."""
    relative: frozenset[Place] = frozenset()
    """Like `taken`, by PC-relative data. In a jump table the distance counts from the table's
    start, not from the entry, so such a place may lie some bytes behind the real label."""
    edges: frozenset[tuple[Place, Place]] = frozenset()
    """(from, to): control may pass from an instruction to another, outside the code's own
    branches."""
    branched: frozenset[Place] = frozenset()
    """Targets of relocated branches."""


def find_labels(elf: ElfFile, sections: set[int]) -> Labels:
    """The labels in the code sections `sections`."""
    homes = _symbols_in(elf, sections)
    if not homes:
        return Labels()
    found: dict[str, set[Place]] = {"taken": set(), "relative": set(), "branched": set()}
    edges: set[tuple[Place, Place]] = set()
    for target in elf.relocated:
        flags = elf.section(target, "a SHT_RELA table").sh_flags
        table = elf.relocations(target) if flags & c.SHF_ALLOC else None
        if table is None:
            continue
        hits = _hits(table, homes)
        if not hits:
            continue
        name = elf.section_name(target)
        if name in PAIRS:
            edges.update(_edges(table, hits, _ENTRY_SIZE[name]))
        elif name not in MARKS:
            for index, place in hits:
                found[_meaning(table[index].type)].add(place)
    taken, relative, branched = (frozenset(places) for places in found.values())
    return Labels(taken, relative, edges=frozenset(edges), branched=branched)


def _meaning(kind: int) -> str:
    if kind in BRANCHES:
        return "branched"
    return "relative" if kind in PC_RELATIVE_DATA else "taken"


def _symbols_in(elf: ElfFile, sections: set[int]) -> dict[int, Place]:
    """Symbol index -> place, for all symbols defined in `sections`."""
    symbols = elf.symbols
    if symbols is None:
        return {}
    return {
        index: (symbols.section_index(index), symbols[index].st_value)
        for index in symbols.in_sections(sections)
    }


def _hits(table: RelaTable, homes: dict[int, Place]) -> list[tuple[int, Place]]:
    """(index in the table, place) of the relocations that point into one of the sections."""
    found = []
    for index, info in enumerate(table.r_info):
        home = homes.get(info >> 32)
        if home is not None:
            found.append((index, (home[0], home[1] + table.r_addend[index])))
    return found


def _edges(
    table: RelaTable, hits: Iterable[tuple[int, Place]], size: int
) -> Iterable[tuple[Place, Place]]:
    """The pairs of a table whose entries are `size` bytes and start with two 32-bit words."""
    starts: dict[int, Place] = {}
    ends: dict[int, Place] = {}
    for index, place in hits:
        entry, field_offset = divmod(table.r_offset[index], size)
        if field_offset == 0:
            starts[entry] = place
        elif field_offset == 4:
            ends[entry] = place
    return [(starts[entry], end) for entry, end in ends.items() if entry in starts]
