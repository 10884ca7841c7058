"""What an object says about the code around its calls of trampolines."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Relocation
from scpatch.linux.patched import NO_PATCHES, Patched, Patches
from scpatch.ppc64.branches import Branches
from scpatch.saved.labels import Labels
from scpatch.saved.other_calls import OtherCalls


class ObjectFacts(NamedTuple):
    """What an object says about its code."""

    elf: ElfFile
    functions: Functions
    labels: Mapping[int, Labels]
    """By section index."""
    patched: Patched
    others: OtherCalls


class SectionFacts(NamedTuple):
    """A section with calls of trampolines, and what the object says about its code."""

    whole: ObjectFacts
    number: int
    """Its section index."""
    branches: Sequence[tuple[int, int]]
    """(target, branch) of the branches without a relocation into functions with calls, sorted."""

    @property
    def labels(self) -> Labels:
        return self.whole.labels[self.number]

    @property
    def patches(self) -> Patches:
        return self.whole.patched.sections.get(self.number, NO_PATCHES)

    def entered(self, places: Collection[int]) -> set[int]:
        """Which instructions control can reach from elsewhere than from the previous one."""
        branched = (target for target, _ in self.branches)
        return set(filter(places.__contains__, chain(self.labels.entered, branched)))

    def relocations(self, start: int, end: int) -> list[Relocation]:
        """The relocations of a range, by r_offset."""
        table = self.whole.elf.relocations(self.number)
        if table is None:
            return []
        return [table[index] for index in table.between(start, end)]


def section_facts(whole: ObjectFacts, number: int, calls: Iterable[int]) -> SectionFacts:
    """The section with `calls`, which are section offsets."""
    return SectionFacts(whole, number, _branches_to(whole, number, calls))


def _branches_to(whole: ObjectFacts, section: int, calls: Iterable[int]) -> list[tuple[int, int]]:
    """The branches to the nop after a call, or into the function around it, from anywhere in the
    section: hand-written code may branch into its neighbour."""
    symbols = whole.elf.symbols
    ranges: set[tuple[int, int]] = set()
    for call in calls:
        ranges.add((call + 4, call + 8))
        index = whole.functions.covering(section, call)
        if index is not None and symbols is not None:
            symbol = symbols[index]
            ranges.add((symbol.st_value, symbol.st_value + symbol.st_size))
    return whole.elf.known(Branches, section).into(ranges)


class CallEffects(NamedTuple):
    """What the calls of trampolines in a function do to r2; the others preserve it."""

    saving: set[int]
    """Each stores r2 in 24(r1) and loads it from there."""
    restoring: set[int]
    """Each only loads r2 from there."""
    clobbering: set[int]
    """Each may return with another TOC."""
