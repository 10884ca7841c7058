"""Where control may come from in an object: its relocations and the kernel's tables say.

Some relocations name a place in code by its distance from another. The entry at table + 4*k of a
compiler's jump table holds label - table, so its relocation names label + 4*k. The table itself has
a name: something refers to it. A word that has a name, as the first entry has, may also count from
itself, and so may all words after it in a row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from scpatch.verifier.objects.calls import Calls
from scpatch.verifier.objects.changes import Changes, ObjectChanges
from scpatch.verifier.objects.patches import TABLES
from scpatch.verifier.objects.read import (
    SHF_ALLOC,
    STT_FILE,
    STT_SECTION,
    Image,
    Place,
    Rela,
    Section,
    named_by,
)
from scpatch.verifier.objects.relocations import (
    ADDR64,
    BRANCHES,
    DISTANCES,
    MARKERS,
    NONE,
    PARTS_OF_DISTANCES,
    REL32,
)
from scpatch.verifier.search.entries import PAIRS, Entries

MARKS = (
    *TABLES,
    *("__bug_table", "__mcount_loc", "__patchable_function_entries", "__soft_mask_table"),
    *("_kprobe_blacklist", ".eh_frame", ".static_call_sites"),
)
"""Sections whose entries mark instructions; nothing ever jumps to what they name (Linux,
arch/powerpc/include/asm/feature-fixups.h, bug.h, ppc_asm.h; scripts/recordmcount.c)."""
DISCARDED = ".discard"
"""The kernel's linker scripts throw away sections whose names begin so."""

RESTARTS = "__restart_table"
"""Entries of a start, an end, and where an interrupt between them returns to: three addresses
(Linux, arch/powerpc/lib/restart_table.c)."""
_SEEN_ELSEWHERE = frozenset((NONE, *MARKERS, *DISTANCES, *PARTS_OF_DISTANCES))
"""Relocations that take no address, or whose places `_distances` reads."""
_SEEN_IN_CODE = _SEEN_ELSEWHERE | BRANCHES


@dataclass(frozen=True, slots=True)
class _Meant:
    """Where a relocation may lead: the place that its form says, and the possible ones from `least`
    to `most`, which are section offsets."""

    source: int
    """The section that the relocation applies to."""
    section: int
    place: int | None
    least: int
    most: int


def _is_mark(section: Section) -> bool:
    name = section.name
    return name in MARKS or name in PAIRS or name.startswith(DISCARDED)


@dataclass(frozen=True, eq=False)
class ObjectEntries(Entries):
    """Where control may come from, for all code of one object."""

    calls: Calls

    @cached_property
    def relocated(self) -> dict[Place, list[Place]]:
        sources: dict[Place, list[Place]] = {}
        by_name: dict[tuple[int, int], list[Place]] = {}
        for source, (rela, _) in self.calls.branches.items():
            name = named_by(rela)
            if name not in by_name:
                place = self.calls.image.target(rela)
                by_name[name] = [] if place is None else sources.setdefault(place, [])
            by_name[name].append(source)
        return sources

    @cached_property
    def changes(self) -> Changes:
        return ObjectChanges(self.calls)

    @cached_property
    def taken(self) -> dict[Place, str]:
        image = self.calls.image
        code = {section.number for section in image.code}
        takers: dict[Place, str] = {}
        for section in image.sections:
            if not section.flags & SHF_ALLOC or _is_mark(section):
                continue
            seen = _SEEN_IN_CODE if section.number in code else _SEEN_ELSEWHERE
            relas = (rela for rela in image.relocations(section.number) if rela.type not in seen)
            if section.name == RESTARTS:
                relas = (rela for rela in relas if not _marks(rela))
            for place in image.places_of(relas):
                if place.section in code:
                    takers.setdefault(place, section.name)
        for meant in self._distances:
            if meant.place is not None:
                name = image.sections[meant.source].name
                takers.setdefault(Place(meant.section, meant.place), name)
        return takers

    @cached_property
    def _distances(self) -> list[_Meant]:
        """What PC-relative relocations may mean."""
        image = self.calls.image
        code = {section.number for section in image.code}
        sections = [
            section.number
            for section in image.sections
            if section.flags & SHF_ALLOC and not _is_mark(section)
        ]
        return [
            *_whole_distances(image, sections, code),
            *_parts_of_distances(image, sections, code),
        ]

    @cached_property
    def possible(self) -> dict[int, list[tuple[int, int, str]]]:
        possible: dict[int, list[tuple[int, int, str]]] = {}
        for meant in self._distances:
            name = self.calls.image.sections[meant.source].name
            possible.setdefault(meant.section, []).append((meant.least, meant.most, name))
        for section, ranges in possible.items():
            joined: list[tuple[int, int, str]] = []
            for least, most, name in sorted(ranges):
                if joined and least <= joined[-1][1]:
                    first, last, name = joined.pop()
                    least, most = first, max(last, most)
                joined.append((least, most, name))
            possible[section] = joined
        return possible

    @cached_property
    def named(self) -> dict[Place, str]:
        """Places in code that `MARKS` and `PAIRS` tables name, but not those that `paired` has: by
        place, the section."""
        image = self.calls.image
        names: dict[Place, str] = {}
        for section in image.sections:
            if not section.flags & SHF_ALLOC or not _is_mark(section) or section.name in TABLES:
                continue
            for rela in image.relocations(section.number):
                place = image.target(rela)
                if place is not None and not _leads(section, rela):
                    names[place] = section.name
        return names

    @cached_property
    def paired(self) -> dict[Place, list[Place]]:
        image = self.calls.image
        sources: dict[Place, list[Place]] = {}
        for section in image.sections:
            size = PAIRS.get(section.name, 0)
            if not size or not section.flags & SHF_ALLOC:
                continue
            for table in image.rela_sections.get(section.number, ()):
                at = {rela.offset: rela for rela in image.relas(table)}
                for offset, rela in at.items():
                    place, first = image.target(rela), at.get(offset - 4)
                    short = rela.type == REL32 and offset % size in (0, 4)
                    if place is None or (short and offset % size == 0):
                        continue
                    known = short and first is not None and first.type == REL32
                    source = image.target(first) if known and first is not None else None
                    sources.setdefault(place, []).append(source or Place(0, 0))
        return sources


def _leads(section: Section, rela: Rela) -> bool:
    """Whether it is the second half of an entry of `PAIRS`, where control goes."""
    size = PAIRS.get(section.name, 0)
    return size > 0 and rela.type == REL32 and rela.offset % size == 4


def _marks(rela: Rela) -> bool:
    """Whether it is an end of the instructions that an entry of `RESTARTS` is about."""
    return rela.type == ADDR64 and rela.offset % 24 != 16


def _whole_distances(image: Image, sections: Iterable[int], code: set[int]) -> Iterator[_Meant]:
    """What the PC-relative relocations of `sections` name in the sections `code`."""
    distances = {
        section: [rela for rela in image.relocations(section) if rela.type in DISTANCES]
        for section in sections
    }
    names = _names(image, {section for section, relas in distances.items() if relas})
    for section, relas in distances.items():
        start, end, known = 0, 0, False
        ordered = sorted(names.get(section, ()))
        for rela in sorted(relas):
            size = DISTANCES[rela.type]
            before = ordered[bisect_right(ordered, rela.offset) - 1]
            if rela.offset == before:
                start, known = rela.offset, True
            elif not known or rela.offset != end:
                known = False
            end = rela.offset + size
            target = image.target(rela)
            if target is None or target.section not in code:
                continue
            if known:
                bias = rela.offset - start
                place = target.offset - bias
                yield _Meant(section, target.section, place, target.offset, target.offset)
            else:
                least = target.offset - (rela.offset - before & ~3)
                yield _Meant(section, target.section, None, least, target.offset)


def _parts_of_distances(image: Image, sections: Iterable[int], code: set[int]) -> Iterator[_Meant]:
    """What distances in the instructions of `sections` name in the sections `code`. They count
    from a place in the same function."""
    for section in sections:
        starts = [symbol.value for symbol in image.functions.get(section, ())]
        for rela in image.relocations(section):
            target = image.target(rela) if rela.type in PARTS_OF_DISTANCES else None
            if target is not None and target.section in code:
                word, at = rela.offset & ~3, bisect_right(starts, rela.offset) - 1
                bias = word - (starts[at] if at >= 0 else 0) & ~3
                most = target.offset - (rela.offset - word)
                yield _Meant(section, target.section, None, most - bias, most)


def _names(image: Image, wanted: set[int]) -> dict[int, set[int]]:
    """The offsets in the sections `wanted` that symbols name, or relocations as they stand."""
    named: dict[int, set[int]] = {section: {0} for section in wanted}
    distances = PARTS_OF_DISTANCES.union(DISTANCES)
    for symbol in image.symbols:
        if symbol.section in wanted and symbol.type not in (STT_SECTION, STT_FILE):
            named[symbol.section].add(symbol.value)
    for section in image.sections if wanted else ():
        relas = image.relocations(section.number) if section.flags & SHF_ALLOC else ()
        for place in image.places_of(rela for rela in relas if rela.type not in distances):
            if place.section in wanted:
                named[place.section].add(place.offset)
    return named
