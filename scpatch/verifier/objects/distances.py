"""Places in code that relocations name by a distance from somewhere else than from themselves.

The entry at table + 4*k of a compiler's jump table holds label - table, so that its relocation has
label + 4*k for symbol and addend. The table itself has a name: something refers to it. A word that
is named, as the first one is, may also count from itself, and so may all in a row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scpatch.verifier.objects.read import SHF_ALLOC, STT_FILE, STT_SECTION, Image, Rela

IN_DATA = {26: 4, 44: 8}
"""R_PPC64_REL32, R_PPC64_REL64: bytes of an entry."""
IN_CODE = frozenset((*range(240, 247), *range(249, 253)))
"""The R_PPC64_REL16 family: instructions add up a distance from an address before them."""


@dataclass(frozen=True, slots=True)
class Meant:
    """Where a relocation may lead: the one place that its form says, and others that are possible,
    from `least` to `most`, which are section offsets."""

    source: int
    """The section that the relocation applies to."""
    section: int
    place: int | None
    least: int
    most: int


def read_distances(image: Image, sections: Iterable[int], code: set[int]) -> Iterator[Meant]:
    """What the PC-relative relocations of `sections` name in the sections `code`."""
    found: dict[int, list[Rela]] = {}
    for section in sections:
        for table in image.rela_sections.get(section, ()):
            entries = (one for one in image.relas(table) if one.type in IN_DATA)
            found.setdefault(section, []).extend(entries)
    names = _names(image, {section for section, relas in found.items() if relas})
    for section, relas in found.items():
        start, end, known = 0, 0, False
        ordered = sorted(names.get(section, ()))
        for rela in sorted(relas):
            size = IN_DATA[rela.type]
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
        for table in image.rela_sections.get(section, ()):
            for rela in image.relas(table):
                target = image.target(rela) if rela.type in IN_CODE else None
                if target is not None and target.section in code:
                    at = bisect_right(starts, rela.offset) - 1
                    bias = rela.offset - (starts[at] if at >= 0 else 0) & ~3
                    yield Meant(section, target.section, None, target.offset - bias, target.offset)


def _names(image: Image, wanted: set[int]) -> dict[int, set[int]]:
    """The offsets in the sections `wanted` that symbols name, or relocations as they stand."""
    found: dict[int, set[int]] = {section: {0} for section in wanted}
    for symbol in image.symbols:
        if symbol.section in wanted and symbol.type not in (STT_SECTION, STT_FILE):
            found[symbol.section].add(symbol.value)
    for section in image.sections if wanted else ():
        tables = image.rela_sections.get(section.number, ()) if section.flags & SHF_ALLOC else ()
        for rela in (rela for table in tables for rela in image.relas(table)):
            if rela.type not in IN_DATA and rela.type not in IN_CODE:
                place = image.target(rela)
                if place is not None and place.section in wanted:
                    found[place.section].add(place.offset)
    return found
