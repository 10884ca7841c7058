"""Places in code that relocations name by a distance from some other place.

The entry at table + 4*k of a compiler's jump table holds label - table, so its relocation names
label + 4*k. The table itself has a name: something refers to it. A word that has a name, as the
first entry has, may also count from itself, and so may all words after it in a row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scpatch.verifier.objects.read import SHF_ALLOC, STT_FILE, STT_SECTION, Image
from scpatch.verifier.objects.relocations import DISTANCES, PARTS_OF_DISTANCES


@dataclass(frozen=True, slots=True)
class Meant:
    """Where a relocation may lead: the place that its form says, and the possible ones from `least`
    to `most`, which are section offsets."""

    source: int
    """The section that the relocation applies to."""
    section: int
    place: int | None
    least: int
    most: int


def read_distances(image: Image, sections: Iterable[int], code: set[int]) -> Iterator[Meant]:
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
                yield Meant(section, target.section, place, target.offset, target.offset)
            else:
                least = target.offset - (rela.offset - before & ~3)
                yield Meant(section, target.section, None, least, target.offset)


def read_parts(image: Image, sections: Iterable[int], code: set[int]) -> Iterator[Meant]:
    """What distances in the instructions of `sections` name in the sections `code`. They count
    from a place in the same function."""
    for section in sections:
        starts = [symbol.value for symbol in image.functions.get(section, ())]
        for rela in image.relocations(section):
            target = image.target(rela) if rela.type in PARTS_OF_DISTANCES else None
            if target is not None and target.section in code:
                at = bisect_right(starts, rela.offset) - 1
                bias = rela.offset - (starts[at] if at >= 0 else 0) & ~3
                yield Meant(section, target.section, None, target.offset - bias, target.offset)


def _names(image: Image, wanted: set[int]) -> dict[int, set[int]]:
    """The offsets in the sections `wanted` that symbols name, or relocations as they stand."""
    named: dict[int, set[int]] = {section: {0} for section in wanted}
    for symbol in image.symbols:
        if symbol.section in wanted and symbol.type not in (STT_SECTION, STT_FILE):
            named[symbol.section].add(symbol.value)
    for section in image.sections if wanted else ():
        for rela in image.relocations(section.number) if section.flags & SHF_ALLOC else ():
            if rela.type not in DISTANCES and rela.type not in PARTS_OF_DISTANCES:
                place = image.target(rela)
                if place is not None and place.section in wanted:
                    named[place.section].add(place.offset)
    return named
