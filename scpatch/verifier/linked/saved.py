"""Is r2 in 24(r1) at a call, in a linked image? The proof's own search, on what an image tells.

An image has no relocations that say where else control may come from. Labels of exception tables
and of static branches are read from the tables that the kernel itself finds by symbols; a function
with a jump by way of ctr, as a switch makes, is given up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from scpatch.verifier.linked.image import Linked
from scpatch.verifier.objects.calls import Calls, Site
from scpatch.verifier.objects.changes import Changes
from scpatch.verifier.objects.insn import Flow, flow
from scpatch.verifier.objects.patches import TABLES, Entry, Patches, form, make
from scpatch.verifier.objects.read import Place, Rela, Symbol
from scpatch.verifier.objects.stubs import Stub
from scpatch.verifier.objects.trampolines import Trampoline
from scpatch.verifier.search.entries import Entries
from scpatch.verifier.search.frame import Answer, Code

_TABLES = {"__ex_table": 8, "__jump_table": 16}
"""By symbols __start_NAME and __stop_NAME; entries begin with the distances of an instruction
and of where control goes from it, each from the field that it is in (Linux,
arch/powerpc/include/asm/extable.h and jump_label.h)."""
_BLR = (0x4E800020, 0x4E800021)
_NOWHERE = Symbol(0, "", 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class _Calls(Calls):
    """The calls of an image, where relocations play no part: those by way of stubs that save."""

    saving: Mapping[Place, Trampoline] = field(default_factory=dict)

    @cached_property
    def branches(self) -> dict[Place, tuple[Rela, Place]]:
        return {place: (site.rela, site.record) for place, site in self.sites.items()}

    @cached_property
    def other_relocations(self) -> frozenset[Place]:
        return frozenset()

    @cached_property
    def sites(self) -> dict[Place, Site]:
        return {
            place: Site(
                place,
                Rela(place.offset, 10, 0, 0),
                place,
                one,
                0,
                Stub(_NOWHERE, one.place, 8, one, ""),
            )
            for place, one in self.saving.items()
        }


@dataclass(frozen=True, eq=False)
class _Entries(Entries):
    linked: Linked | None = None

    @cached_property
    def relocated(self) -> dict[Place, list[Place]]:
        return {}

    @cached_property
    def changes(self) -> Changes:
        return _Changes(self.calls, linked=self.linked)

    @cached_property
    def taken(self) -> dict[Place, str]:
        return {}

    @cached_property
    def possible(self) -> dict[int, list[tuple[int, int, str]]]:
        return {}

    @cached_property
    def paired(self) -> dict[Place, list[Place]]:
        found: dict[Place, list[Place]] = {}
        assert self.linked is not None
        for source, to in _pairs(self.linked):
            found.setdefault(to, []).append(source)
        for at in _table(self.linked, "__restart_table", 24):
            target = self.linked.place(self.linked.doubleword(at + 16) or 0)
            if target is not None:
                found.setdefault(target, []).append(Place(0, 0))
        return found


def _table(linked: Linked, name: str, size: int) -> Iterator[int]:
    """The addresses of the entries of one of the kernel's tables."""
    found = (linked.symbols.get(f"__{end}{name}") for end in ("start_", "stop_"))
    start, stop = (address or 0 for address in found)
    for at in range(start, stop, size):
        if linked.doubleword(at) is None:
            break
        yield at


def _pairs(linked: Linked) -> Iterator[tuple[Place, Place]]:
    """(instruction, where control goes from it) of the kernel's tables."""
    for name, size in _TABLES.items():
        for at in _table(linked, name, size):
            fields = linked.doubleword(at) or 0
            source = linked.place(at + _signed(fields, 32))
            to = linked.place(at + 4 + _signed(fields >> 32, 32))
            if to is not None:
                yield source or Place(0, 0), to


@dataclass(frozen=True, eq=False)
class _Changes(Changes):
    """What the kernel may change in an image. The linker has changed what it may already."""

    linked: Linked | None = None

    @cached_property
    def patches(self) -> Patches:
        entries: list[Entry] = []
        assert self.linked is not None
        for name in TABLES:
            size, first = form(name)
            # One underscore less in the symbols of __btb_flush_fixup.
            starts = (*_table(self.linked, name, size), *_table(self.linked, name[1:], size))
            for start in starts:
                fields = (self.linked.doubleword(start + at) for at in range(first, size, 8))
                addresses = [start + _signed(one or 0, 64) for one in fields]
                places = [self._bound(one, at % 2 == 1) for at, one in enumerate(addresses)]
                entries.append((name, places))
        return make(self.calls, entries)

    def _bound(self, address: int, end: bool) -> Place | None:
        """The place of an address where code starts or ends, which may be the end of a section."""
        assert self.linked is not None
        place, before = self.linked.place(address), self.linked.place(address - 4)
        if before is not None and (end or place is None):
            return Place(before.section, before.offset + 4)
        return place

    @cached_property
    def patched_alone(self) -> dict[Place, str]:
        assert self.linked is not None
        found = {source: "__jump_table" for source, _ in _pairs(self.linked)}
        for at in _table(self.linked, "mcount_loc", 8):
            place = self.linked.place(self.linked.doubleword(at) or 0)
            if place is not None:
                found[place] = "__mcount_loc"
        return found

    def _at(self, place: Place) -> list[Rela]:
        return []


def _signed(value: int, bits: int) -> int:
    """The low `bits` of a value as a signed number."""
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)


class Saves:
    """Finds the saves of functions. `saving` are the calls that a stub saves r2 for."""

    def __init__(self, linked: Linked, saving: Mapping[Place, Trampoline]) -> None:
        self._calls = _Calls(linked.image, linked.calls.globs, saving)
        self._code = Code(_Entries(self._calls, linked=linked))

    def entered(self, place: Place) -> str:
        """How control may come to a place other than from the instruction before it."""
        return self._code.entries.entered(place)

    def before(self, place: Place) -> Answer:
        """Whether the function has r2 in 24(r1) whenever control comes to a call."""
        symbol = self._calls.image.function_at(place)
        if symbol is not None:
            end = self._calls.image.sections[place.section].size
            for offset in range(symbol.value, min(symbol.value + symbol.size, end), 4):
                word = self._calls.word(Place(place.section, offset))
                if word not in _BLR and word >> 26 == 19 and _leaves(word):
                    return Answer(fault=f"the function jumps by way of a register at +{offset:#x}")
        return self._code.is_saved(place)


def _leaves(word: int) -> bool:
    """Whether a branch goes where CTR says, perhaps to a label, and is no call."""
    return flow(word) in (Flow.LEAVES, Flow.MAY_LEAVE) and (word >> 1 & 0x3FF) != 16
