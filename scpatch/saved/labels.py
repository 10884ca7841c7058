"""Where control can arrive inside functions, except by running on or by a branch in the code.

Relocations of allocated sections that point into code, sorted by what they mean: an edge from one
instruction to another (exception table, jump label), a mere mark on an instruction, or an address
that somebody may branch to (a jump table, a computed goto, a return address).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.relocations import LoadedRelocations
from scpatch.linux.patched import FIXUPS, WORDS, CodeRange, merged
from scpatch.ppc64.relocs import (
    BRANCHES,
    MARKERS,
    PC_RELATIVE_CODE,
    PC_RELATIVE_DATA,
    R_PPC64_ADDR64,
    R_PPC64_REL32,
)
from scpatch.saved.jump_tables import Relative, find_places

Location = tuple[int, int]
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
_NO_ENTRY = -1
_NAMELESS = (c.STT_SECTION, c.STT_FILE)


class Labels(NamedTuple):
    """Section offsets of places in the code of one section that symbols or relocations name,
    sorted."""

    named: list[int]
    """The places of symbols, whatever their type."""
    taken: list[int]
    """Addresses that code or data holds, so that somebody may branch there."""
    possible: list[CodeRange]
    """Where further such places may be, since the distance counts from an unknown place."""
    branched: list[int]
    """Targets of relocated branches."""
    marked: list[int]
    """Instructions that a table names and nobody branches to."""
    changed: list[int]
    """Those that the kernel patches while it runs."""
    edges: list[tuple[int, Location]]
    """(target, from): control may pass from one instruction to another, outside the code's own
    branches."""

    @property
    def entered(self) -> Iterator[int]:
        """Where control may arrive for sure, in no order."""
        targets = (target for target, _ in self.edges)
        return chain(self.named, self.taken, self.branched, targets)


def find_labels(elf: ElfFile, sections: Collection[int]) -> dict[int, Labels]:
    """The labels in each of some code sections, which are read once for a file."""
    labels = elf.notes(_Read)
    if unread := set(sections) - labels.keys():
        labels.update(_find_labels(elf, unread))
    return {section: labels[section] for section in sections}


class _Read(dict[int, Labels]):
    """The labels of the sections that were read."""


def _find_labels(elf: ElfFile, sections: set[int]) -> dict[int, Labels]:
    labels = {section: Labels([], [], [], [], [], [], []) for section in sections}
    relative: list[Relative] = []
    homes: dict[int, int] = {}
    if (symbols := elf.symbols) is not None:
        homes = symbols.homes(sections)
        kinds, values = symbols.st_info, symbols.st_value
        for section, here in labels.items():
            named = (at for at in symbols.defined_in(section) if kinds[at] & 0xF not in _NAMELESS)
            here.named.extend(map(values.__getitem__, named))
    words = {index for name in WORDS for index in elf.sections_named(name)}
    loaded = elf.loaded
    for target, _, indices in loaded.by_section(loaded.naming(homes)):
        hits = _hits(loaded, homes, elf, indices, every=target in words)
        name = elf.section_name(target) if hits else ""
        if name in PAIRS:
            _add_pairs(labels, name, loaded, hits)
        elif hits:
            relative += _add_places(labels, target, name, loaded, hits)
    for section, place in find_places(elf, relative):
        if isinstance(place, CodeRange):
            labels[section].possible.append(place)
        else:
            labels[section].taken.append(place)
    return {section: _sorted(here) for section, here in labels.items()}


def _sorted(labels: Labels) -> Labels:
    for places in labels:
        places.sort()
    return labels._replace(possible=merged(labels.possible))


def _add_places(
    labels: Mapping[int, Labels],
    target: int,
    name: str,
    table: LoadedRelocations,
    hits: Iterable[tuple[int, Location]],
) -> Iterator[Relative]:
    """Adds what the relocations of the section `target` name; yields what is relative to an unknown
    place."""
    for index, (section, offset) in hits:
        kind, at = table.r_info[index] & 0xFFFFFFFF, table.r_offset[index]
        if _is_mark(name, kind, at):
            labels[section].marked.append(offset)
        elif kind in BRANCHES:
            labels[section].branched.append(offset)
        elif kind in PC_RELATIVE_DATA or kind in PC_RELATIVE_CODE:
            # A relocation of 16 bits need not be at the start of its word.
            rest = at & 3
            yield Relative(target, at - rest, kind, section, offset - rest)
        else:
            labels[section].taken.append(offset)
        if name in WORDS:
            labels[section].changed.append(offset)


def _is_mark(name: str, kind: int, at: int) -> bool:
    """Whether nobody branches to what a relocation at the offset `at` of a section names."""
    if name in MARKS or name.startswith(DISCARDED):
        return True
    if name == RESTARTS and kind == R_PPC64_ADDR64 and at % _RESTART_ENTRY != _RESTART_TARGET:
        return True
    return kind in MARKERS and kind not in BRANCHES


def _hits(
    table: LoadedRelocations,
    homes: Mapping[int, int],
    elf: ElfFile,
    indices: Iterable[int],
    *,
    every: bool,
) -> list[tuple[int, Location]]:
    """(index, place) of some relocations against the symbols in `homes`, which are symbol index ->
    section index.

    Those without an addend name a symbol's own place or a section's start. Symbols count as entries
    anyway, so these are left out unless `every` one is wanted.
    """
    named, addends, info = table.symbol, table.r_addend, table.r_info
    if not every:
        indices = [at for at in indices if addends[at] or info[at] & 0xFFFFFFFF in PC_RELATIVE_DATA]
    assert elf.symbols is not None, "relocations name symbols"
    values = elf.symbols.st_value
    return [(at, (homes[named[at]], values[named[at]] + addends[at])) for at in indices]


def _add_pairs(
    labels: Mapping[int, Labels],
    name: str,
    table: LoadedRelocations,
    hits: Iterable[tuple[int, Location]],
) -> None:
    """Adds what one of `PAIRS` says. Each place that a table of another form names is taken."""
    starts: dict[int, Location] = {}
    ends: list[tuple[int, Location]] = []
    for index, place in hits:
        entry, field_offset = divmod(table.r_offset[index], PAIRS[name])
        if table.r_info[index] & 0xFFFFFFFF != R_PPC64_REL32 or field_offset not in (0, 4):
            ends.append((_NO_ENTRY, place))
        elif field_offset == 4:
            ends.append((entry, place))
        else:
            starts[entry] = place
            labels[place[0]].marked.append(place[1])
    for entry, (section, offset) in ends:
        if entry in starts:
            labels[section].edges.append((offset, starts[entry]))
        else:
            labels[section].taken.append(offset)
    if name in WORDS:
        unpaired = [place for entry, place in ends if entry not in starts]
        for section, offset in (*starts.values(), *unpaired):
            labels[section].changed.append(offset)
