"""Where control may come from to an instruction: branches, tables, names, addresses taken."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress, repeat
from operator import itemgetter, not_
from typing import Protocol

from scpatch.verifier.objects.changes import Changes
from scpatch.verifier.objects.insn import CallEffect
from scpatch.verifier.objects.read import (
    STT_FILE,
    STT_SECTION,
    Image,
    Place,
    Rela,
    Symbol,
    as_place,
)

PAIRS = {"__ex_table": 8, "__jump_table": 16}
"""Tables of entries that begin with two 32-bit words, an instruction and where control goes from
it: when it faults, or when a static branch is switched on. By section name, the size of an entry in
bytes (Linux, arch/powerpc/include/asm/extable.h and jump_label.h)."""


class SearchedCode(Protocol):
    """The code of an object or a linked image: instructions, and what calls among them do."""

    @property
    def image(self) -> Image: ...

    @property
    def branches(self) -> Mapping[Place, tuple[Rela, Place]]:
        """The branches that a relocation directs."""

    def words(self, section: int) -> array[int]: ...

    def word_branches(self, section: int) -> list[tuple[int, int]]:
        """(branch, target) of all branches that name their target, by their words."""

    def word(self, place: Place) -> int: ...

    def is_static_call(self, place: Place) -> bool: ...

    def call_effect(self, place: Place) -> CallEffect | None:
        """None if the instruction is no call."""

    def thunk_return(self, place: Place) -> Place | None:
        """The branch to `place` at the end of the thunk that the instruction before it calls."""


@dataclass(frozen=True, eq=False)
class Entries(ABC):
    """Where control may come from, for all code of an object or image. Subclasses read tables and
    relocations; without them control comes by branches alone."""

    calls: SearchedCode
    _branches: dict[int, dict[int, list[int]]] = field(default_factory=dict, repr=False)

    @property
    @abstractmethod
    def changes(self) -> Changes:
        """What may be changed in the code."""

    @cached_property
    def relocated(self) -> dict[Place, list[Place]]:
        """Branches with a relocation, by their target."""
        return {}

    @cached_property
    def paired(self) -> dict[Place, list[Place]]:
        """Where tables lead: by the place that control goes to, the instructions that it comes
        from."""
        return {}

    @cached_property
    def taken(self) -> dict[Place, str]:
        """Addresses in code that data or other instructions take: by place, the section that takes
        it."""
        return {}

    @cached_property
    def possible(self) -> dict[int, list[tuple[int, int, str]]]:
        """By code section, where addresses that are not known for sure may be: the first and last
        place, and the section that takes them. Sorted, without overlaps."""
        return {}

    def branches_to(self, section: int) -> dict[int, list[int]]:
        """Branches of a section without relocation, by the section offset of their target."""
        if section not in self._branches:
            sources: dict[int, list[int]] = {}
            branches = self.calls.word_branches(section)
            places = zip(repeat(section), map(itemgetter(0), branches))
            alone = map(not_, map(self.calls.branches.__contains__, places))
            for branch, to in compress(branches, alone):
                sources.setdefault(to, []).append(branch)
            self._branches[section] = sources
        return self._branches[section]

    @cached_property
    def unwound(self) -> bool:
        """Whether exceptions may enter functions: a table of C++ says where."""
        return any(s.name.startswith(".gcc_except_table") for s in self.calls.image.sections)

    @cached_property
    def labels(self) -> dict[Place, list[Symbol]]:
        """The symbols in code, by place."""
        labels: dict[Place, list[Symbol]] = {}
        for symbol in self.calls.image.symbols:
            if symbol.section > 0 and symbol.type not in (STT_SECTION, STT_FILE):
                labels.setdefault(as_place((symbol.section, symbol.value)), []).append(symbol)
        return labels

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
