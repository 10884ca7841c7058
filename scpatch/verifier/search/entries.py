"""Where control may come from to an instruction: branches, tables, names, addresses taken."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from scpatch.verifier.objects.calls import Calls
from scpatch.verifier.objects.changes import MARKERS, Changes
from scpatch.verifier.objects.distances import IN_CODE, IN_DATA, Meant, read_distances, read_parts
from scpatch.verifier.objects.insn import target
from scpatch.verifier.objects.patches import TABLES
from scpatch.verifier.objects.read import (
    SHF_ALLOC,
    STT_FILE,
    STT_SECTION,
    Place,
    Rela,
    Section,
    Symbol,
)
from scpatch.verifier.objects.relocations import BRANCHES

MARKS = (
    *TABLES,
    *("__bug_table", "__mcount_loc", "__patchable_function_entries", "__soft_mask_table"),
    *("_kprobe_blacklist", ".eh_frame", ".static_call_sites"),
)
"""Sections whose entries mark instructions; nothing ever jumps to what they name (Linux,
arch/powerpc/include/asm/feature-fixups.h, bug.h, ppc_asm.h; scripts/recordmcount.c)."""
DISCARDED = ".discard"
"""The kernel's linker scripts throw away sections whose names begin so."""

PAIRS = {"__ex_table": 8, "__jump_table": 16}
"""Tables of entries that begin with two 32-bit words, an instruction and where control goes from
it: when it faults, or when a static branch is switched on. By section name, the size of an entry in
bytes (Linux, arch/powerpc/include/asm/extable.h and jump_label.h)."""

RESTARTS = "__restart_table"
"""Entries of a start, an end, and where an interrupt between them returns to: three addresses
(Linux, arch/powerpc/lib/restart_table.c)."""
_ADDR64, _REL32 = 38, 26


def _is_mark(section: Section) -> bool:
    name = section.name
    return name in MARKS or name in PAIRS or name.startswith(DISCARDED)


@dataclass(frozen=True, eq=False)
class Entries:
    """Where control may come from, for all code of one object."""

    calls: Calls
    _branches: dict[int, dict[int, list[int]]] = field(default_factory=dict, repr=False)

    def branches_to(self, section: int) -> dict[int, list[int]]:
        """Branches of a section without relocation, by the section offset of their target."""
        if section not in self._branches:
            found: dict[int, list[int]] = {}
            for at, word in enumerate(self.calls.words(section)):
                if word >> 26 in (16, 18) and Place(section, at * 4) not in self.calls.branches:
                    to = target(word, at * 4)
                    if to is not None:
                        found.setdefault(to, []).append(at * 4)
            self._branches[section] = found
        return self._branches[section]

    @cached_property
    def relocated(self) -> dict[Place, list[Place]]:
        """Branches with a relocation, by their target."""
        found: dict[Place, list[Place]] = {}
        for source, (rela, _) in self.calls.branches.items():
            place = self.calls.image.target(rela)
            if place is not None:
                found.setdefault(place, []).append(source)
        return found

    @cached_property
    def changes(self) -> Changes:
        """The instructions that are not what they seem."""
        return Changes(self.calls)

    @cached_property
    def unwound(self) -> bool:
        """Whether exceptions may enter functions: a table of C++ says where."""
        return any(s.name.startswith(".gcc_except_table") for s in self.calls.image.sections)

    @cached_property
    def taken(self) -> dict[Place, str]:
        """Addresses in code that other relocations take: by place, the section that takes it."""
        image = self.calls.image
        code = {section.number for section in image.code}
        found: dict[Place, str] = {}
        for section in image.sections:
            if not section.flags & SHF_ALLOC or _is_mark(section):
                continue
            seen_elsewhere = BRANCHES if section.number in code else frozenset[int]()
            for table in image.rela_sections.get(section.number, ()):
                for rela in image.relas(table):
                    if rela.type in seen_elsewhere or rela.type in (0, *MARKERS):
                        continue
                    if rela.type in IN_DATA or rela.type in IN_CODE or _marks(section, rela):
                        continue
                    place = image.target(rela)
                    if place is not None and place.section in code:
                        found.setdefault(place, section.name)
        for meant in self._distances:
            if meant.place is not None:
                name = image.sections[meant.source].name
                found.setdefault(Place(meant.section, meant.place), name)
        return found

    @cached_property
    def _distances(self) -> list[Meant]:
        """What PC-relative relocations may mean."""
        image = self.calls.image
        code = {section.number for section in image.code}
        sections = [
            section.number
            for section in image.sections
            if section.flags & SHF_ALLOC and not _is_mark(section)
        ]
        return [*read_distances(image, sections, code), *read_parts(image, sections, code)]

    @cached_property
    def possible(self) -> dict[int, list[tuple[int, int, str]]]:
        """By code section, where addresses that are not known for sure may be: the first and last
        place, and the section that takes them. Sorted, without overlaps."""
        found: dict[int, list[tuple[int, int, str]]] = {}
        for meant in self._distances:
            name = self.calls.image.sections[meant.source].name
            found.setdefault(meant.section, []).append((meant.least, meant.most, name))
        for section, ranges in found.items():
            joined: list[tuple[int, int, str]] = []
            for least, most, name in sorted(ranges):
                if joined and least <= joined[-1][1]:
                    first, last, name = joined.pop()
                    least, most = first, max(last, most)
                joined.append((least, most, name))
            found[section] = joined
        return found

    @cached_property
    def named(self) -> dict[Place, str]:
        """Places in code that the sections passed over by `taken` name, but where `paired` leads:
        by place, the section."""
        image = self.calls.image
        found: dict[Place, str] = {}
        for section in image.sections:
            if not section.flags & SHF_ALLOC or not _is_mark(section) or section.name in TABLES:
                continue
            for table in image.rela_sections.get(section.number, ()):
                for rela in image.relas(table):
                    place = image.target(rela)
                    if place is not None and not _leads(section, rela):
                        found[place] = section.name
        return found

    @cached_property
    def paired(self) -> dict[Place, list[Place]]:
        """Where `PAIRS` tables lead: by the place that control goes to, the instructions that it
        comes from."""
        image = self.calls.image
        found: dict[Place, list[Place]] = {}
        for section in image.sections:
            size = PAIRS.get(section.name, 0)
            if not size or not section.flags & SHF_ALLOC:
                continue
            for table in image.rela_sections.get(section.number, ()):
                at = {rela.offset: rela for rela in image.relas(table)}
                for offset, rela in at.items():
                    place, first = image.target(rela), at.get(offset - 4)
                    short = rela.type == _REL32 and offset % size in (0, 4)
                    if place is None or (short and offset % size == 0):
                        continue
                    known = short and first is not None and first.type == _REL32
                    source = image.target(first) if known and first is not None else None
                    found.setdefault(place, []).append(source or Place(0, 0))
        return found

    @cached_property
    def labels(self) -> dict[Place, list[Symbol]]:
        """The symbols in code, by place."""
        found: dict[Place, list[Symbol]] = {}
        for symbol in self.calls.image.symbols:
            if symbol.section > 0 and symbol.type not in (STT_SECTION, STT_FILE):
                found.setdefault(Place(symbol.section, symbol.value), []).append(symbol)
        return found

    def into(self, place: Place) -> Iterator[Place]:
        """The branches to `place`, with and without relocation."""
        for source in self.branches_to(place.section).get(place.offset, ()):
            yield Place(place.section, source)
        yield from self.relocated.get(place, ())
        yield from self.paired.get(place, ())

    def from_elsewhere(self, place: Place) -> str:
        """Why control may come to `place` unseen: its address is taken, or it has a name."""
        if place in self.taken:
            return f"its address is taken in {self.taken[place]}"
        if place in self.labels:
            return f"it is the label {self.labels[place][0].name}"
        return ""

    def perhaps_from_elsewhere(self, place: Place) -> str:
        """The same, with the addresses that may be meant and need not be."""
        ranges = self.possible.get(place.section, [])
        at = bisect_right(ranges, (place.offset, sys.maxsize, "")) - 1
        reason = self.from_elsewhere(place)
        if not reason and at >= 0 and place.offset <= ranges[at][1]:
            return f"its address may be taken in {ranges[at][2]}"
        return reason

    def entered(self, place: Place) -> str:
        """How control may come to `place` other than from the instruction before it; else empty."""
        for source in self.into(place):
            return f"{self.calls.image.where(source)} branches to it"
        return self.from_elsewhere(place)


def _leads(section: Section, rela: Rela) -> bool:
    """Whether it is the second half of an entry of `PAIRS`, where control goes."""
    size = PAIRS.get(section.name, 0)
    return size > 0 and rela.type == _REL32 and rela.offset % size == 4


def _marks(section: Section, rela: Rela) -> bool:
    """Whether it is an end of the instructions that an entry of `RESTARTS` is about."""
    return section.name == RESTARTS and rela.type == _ADDR64 and rela.offset % 24 != 16
