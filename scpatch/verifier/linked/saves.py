"""Is r2 in 24(r1) at a call, in a linked image? What the search for saves is told about an image.

An image has no relocations that say where else control may come from. The labels of exception
tables and of static branches are read from the tables that the kernel itself finds by symbols. In a
function with a jump through CTR, as a switch makes, no save is shown.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from scpatch.verifier.linked.image import Linked, signed
from scpatch.verifier.linked.paths import find_callee
from scpatch.verifier.objects.changes import Changes
from scpatch.verifier.objects.insn import CallEffect, Flow, flow, target
from scpatch.verifier.objects.patches import TABLES, Entry, Patches, form, make
from scpatch.verifier.objects.read import Image, Place, Rela
from scpatch.verifier.search.entries import PAIRS, Entries
from scpatch.verifier.search.frame import Answer, Saves

_NOWHERE = Place(0, 0)
_MAY_LOSE_R2 = (1, 7)
"""Bits 5-7 of st_other: one entry point and r2 is not preserved, or reserved."""


@dataclass(frozen=True, eq=False)
class ImageCode:
    """The code of an image. `saving` are the calls that a stub saves r2 for."""

    linked: Linked
    saving: Collection[Place]
    _effects: dict[int, CallEffect] = field(default_factory=dict, repr=False)
    """What calls of an address do."""

    @property
    def image(self) -> Image:
        return self.linked.image

    @property
    def branches(self) -> dict[Place, tuple[Rela, Place]]:
        return {}

    def words(self, section: int) -> array[int]:
        return self.linked.words(section)

    def word_branches(self, section: int) -> list[tuple[int, int]]:
        return self.linked.word_branches(section)

    def word(self, place: Place) -> int:
        return self.linked.word(place)

    def is_static_call(self, place: Place) -> bool:
        return place in self.saving

    def call_effect(self, place: Place) -> CallEffect | None:
        if flow(self.word(place)) is not Flow.CALL:
            return None
        if place in self.saving:
            return CallEffect.SAVES
        word = self.word(place)
        to = target(word & ~2, 0 if word & 2 else self.linked.address(place))
        assert to is not None, "it is a branch"
        if to not in self._effects:
            self._effects[to] = self._effect(to)
        return self._effects[to]

    def _effect(self, to: int) -> CallEffect:
        """What a call of an address does: a function that has no local entry point, or whatever is
        not known, may return with another r2. So may a trampoline."""
        callee = find_callee(self.linked, to)
        if callee is None:
            return CallEffect.LOSES
        if callee.saves:
            return CallEffect.SAVES
        keeps = all(symbol.other >> 5 not in _MAY_LOSE_R2 for symbol in callee.symbols)
        return CallEffect.PRESERVES if keeps and callee.gets_r2 else CallEffect.LOSES

    def thunk_return(self, place: Place) -> None:
        return None


@dataclass(frozen=True, eq=False)
class ImageEntries(Entries):
    """Where control may come from in an image."""

    calls: ImageCode

    @cached_property
    def changes(self) -> Changes:
        return ImageChanges(self.calls.linked)

    @cached_property
    def paired(self) -> dict[Place, list[Place]]:
        paired: dict[Place, list[Place]] = {}
        linked = self.calls.linked
        for source, to in _pairs(linked):
            paired.setdefault(to, []).append(source)
        for at in _table(linked, "__restart_table", 24):
            target = linked.place(linked.doubleword(at + 16) or 0)
            if target is not None:
                paired.setdefault(target, []).append(_NOWHERE)
        return paired


@dataclass(frozen=True, eq=False)
class ImageChanges(Changes):
    """What the kernel may change in an image. The linker has made its changes already."""

    code: Linked

    @cached_property
    def patches(self) -> Patches:
        entries: list[Entry] = []
        for name in TABLES:
            size, first = form(name)
            # One underscore less in the symbols of __btb_flush_fixup.
            starts = (*_table(self.code, name, size), *_table(self.code, name[1:], size))
            for start in starts:
                fields = (self.code.doubleword(start + at) for at in range(first, size, 8))
                addresses = [start + signed(distance or 0, 64) for distance in fields]
                places = [self._bound(to, at % 2 == 1) for at, to in enumerate(addresses)]
                entries.append((name, places))
        return make(self.code, entries)

    def _bound(self, address: int, end: bool) -> Place | None:
        """The place of an address where code starts or ends, which may be the end of a section."""
        place, before = self.code.place(address), self.code.place(address - 4)
        if before is not None and (end or place is None):
            return before.after(4)
        return place

    @cached_property
    def patched_alone(self) -> dict[Place, str]:
        patched = {source: "__jump_table" for source, _ in _pairs(self.code)}
        for at in _table(self.code, "mcount_loc", 8):
            place = self.code.place(self.code.doubleword(at) or 0)
            if place is not None:
                patched[place] = "__mcount_loc"
        return patched


def _table(linked: Linked, name: str, size: int) -> Iterator[int]:
    """The addresses of the entries of one of the kernel's tables, between two symbols."""
    start, stop = (linked.symbols.get(f"__{end}_{name}", 0) for end in ("start", "stop"))
    for at in range(start, stop, size):
        if linked.doubleword(at) is None:
            break
        yield at


def _pairs(linked: Linked) -> Iterator[tuple[Place, Place]]:
    """(instruction, where control goes from it) of the kernel's tables. An entry begins with two
    distances, each from its own field."""
    for name, size in PAIRS.items():
        for at in _table(linked, name, size):
            first, second = linked.two_distances(at)
            source, to = linked.place(at + first), linked.place(at + 4 + second)
            if to is not None:
                yield source or _NOWHERE, to


@dataclass(frozen=True, eq=False)
class ImageSaves(Saves):
    """What the functions of an image save."""

    def is_saved(self, place: Place) -> Answer:
        calls = self.entries.calls
        symbol = calls.image.function_at(place)
        if symbol is not None:
            end = min(symbol.value + symbol.size, calls.image.sections[place.section].size)
            for offset in range(symbol.value, end, 4):
                if _jumps(calls.word(Place(place.section, offset))):
                    return Answer(fault=f"the function jumps through a register at +{offset:#x}")
        return super().is_saved(place)


def _jumps(word: int) -> bool:
    """Whether a branch goes where CTR or TAR says, perhaps to a label, and is no call."""
    return flow(word) in (Flow.LEAVES, Flow.MAY_LEAVE) and (word >> 1 & 0x3FF) != 16
