"""The trampolines of one object, and which of them a branch leads to."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from itertools import chain

from scpatch.verifier.objects.instructions import Instructions
from scpatch.verifier.objects.read import (
    SHN_LIVEPATCH,
    STB_WEAK,
    STT_FILE,
    STT_SECTION,
    Place,
    Rela,
    Symbol,
)
from scpatch.verifier.objects.variant import LOCAL_ENTRY

_DATA, _STT_GNU_IFUNC = frozenset((1, 5, 6)), 10
"""STT_OBJECT, STT_COMMON and STT_TLS; and what a resolver has."""
_SHN_COMMON = 0xFFF2


@dataclass(frozen=True, slots=True)
class Trampoline:
    """A symbol whose name is a trampoline's. `place` is its global entry; section 0: no section of
    the object holds it, and `place.offset` is then its symbol index."""

    symbol: Symbol
    place: Place
    in_data: bool = False
    """Whether its section is not executable."""

    @property
    def is_defined(self) -> bool:
        """Whether a section of the object holds it."""
        return self.place.section > 0

    @property
    def marked(self) -> bool:
        """st_other bits 5-7 = 1: no local entry, r2 is not preserved; linkers save and restore. For
        an undefined symbol its definition says so."""
        return self.symbol.section > 0 and self.symbol.other >> 5 == 1

    @property
    def local_entry(self) -> int:
        """The section offset of its local entry (ELFv2 ABI, st_other)."""
        return self.place.offset + LOCAL_ENTRY[self.symbol.other >> 5]

    @property
    def is_data(self) -> bool:
        """By its type (STT_OBJECT, STT_COMMON, STT_TLS) or its section: SHN_COMMON, or one that is
        not executable."""
        return self.in_data or self.symbol.type in _DATA or self.symbol.section == -_SHN_COMMON

    @property
    def is_indirect(self) -> bool:
        """STT_GNU_IFUNC: linkers send its calls through the PLT, by a stub that saves r2, and
        restore r2 in the nop."""
        return self.symbol.type == _STT_GNU_IFUNC

    @property
    def stub_fault(self) -> str:
        """What a linker makes of a stub's branch to it; empty if it leaves that alone."""
        if self.symbol.section == 0 and self.symbol.binding == STB_WEAK:
            return "a linker makes a nop of its branch to a weak undefined symbol"
        if self.is_indirect:
            return "a linker may restore r2 in the word after its branch to an STT_GNU_IFUNC"
        return ""


@dataclass(frozen=True, eq=False)
class Targets(Instructions):
    """The trampolines of an object, whose names match one of `globs`."""

    globs: tuple[str, ...]

    def stub_by_loader(self, trampoline: Trampoline) -> bool:
        """Whether the kernel makes a stub for a call of the trampoline when it loads the module:
        the module does not define it, or a livepatch is to find it, whatever object has the call
        (Linux, arch/powerpc/kernel/module_64.c)."""
        livepatch = trampoline.symbol.shndx == SHN_LIVEPATCH
        return trampoline.symbol.section == 0 and (self.module or livepatch)

    def is_named(self, name: str) -> bool:
        """Whether a symbol of this name is a trampoline."""
        return self._pattern.match(name) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """What matches the names of trampolines."""
        return re.compile("|".join(map(translate, self.globs)) or "(?!)")

    @cached_property
    def trampolines(self) -> dict[Place, list[Trampoline]]:
        """The trampolines by place; several names may share one."""
        trampolines: dict[Place, list[Trampoline]] = {}
        for symbol in self.image.symbols:
            if symbol.type in (STT_SECTION, STT_FILE) or not symbol.number:
                continue
            if self.is_named(_plain_name(symbol)):
                place, in_data = Place(0, symbol.number), False
                if symbol.section > 0:
                    place = Place(symbol.section, symbol.value)
                    in_data = not self.image.sections[symbol.section].is_executable
                    symbol = symbol._replace(size=min(symbol.size, self._rest(place)))
                trampolines.setdefault(place, []).append(Trampoline(symbol, place, in_data))
        return trampolines

    def _rest(self, place: Place) -> int:
        """The bytes from a place to the next function or to the end of its section. A trampoline
        is no longer, whatever its st_size says."""
        functions = self.image.functions.get(place.section, [])
        after = bisect_right(functions, place.offset, key=lambda symbol: symbol.value)
        ends = [symbol.value for symbol in functions[after : after + 1]]
        ends.append(self.image.sections[place.section].size)
        return max(min(ends) - place.offset, 0)

    @property
    def every_trampoline(self) -> Iterator[Trampoline]:
        return chain.from_iterable(self.trampolines.values())

    def names(self, trampoline: Trampoline) -> set[str]:
        """All names of a trampoline."""
        return {same.symbol.name for same in self.trampolines[trampoline.place]}

    @cached_property
    def _starts(self) -> dict[int, list[int]]:
        starts: dict[int, list[int]] = {}
        for section, offset in sorted(self.trampolines):
            starts.setdefault(section, []).append(offset)
        return starts

    def reached(self, rela: Rela) -> tuple[Trampoline, int] | None:
        """The trampoline that a branch relocation leads into, and how far into it (bytes)."""
        symbol = self.image.symbols[rela.symbol]
        if symbol.section <= 0:
            named = self.trampolines.get(Place(0, rela.symbol), [])
            return (named[0], rela.addend) if named and rela.symbol else None
        for named_here in self.trampolines.get(Place(symbol.section, symbol.value), []):
            if named_here.symbol.number == rela.symbol:
                return named_here, rela.addend
        offset = symbol.value + rela.addend
        starts = self._starts.get(symbol.section, [])
        at = bisect_right(starts, offset)
        if not at:
            return None
        start = Place(symbol.section, starts[at - 1])
        for trampoline in self.trampolines[start]:
            if offset == trampoline.local_entry:
                return trampoline, 0
            if offset == start.offset or offset < start.offset + trampoline.symbol.size:
                return trampoline, offset - start.offset
        return None


def is_inside(place: Place, trampoline: Trampoline) -> bool:
    """Whether a branch into a trampoline comes from that trampoline itself."""
    start = trampoline.place
    within = range(start.offset, start.offset + trampoline.symbol.size)
    return place.section == start.section and place.offset in within


def _plain_name(symbol: Symbol) -> str:
    """A symbol's name; of one that a livepatch finds, `.klp.sym.OBJECT.NAME,POSITION`, the NAME."""
    if symbol.shndx != SHN_LIVEPATCH or not symbol.name.startswith(".klp.sym."):
        return symbol.name
    return symbol.name.split(".", 4)[-1].rpartition(",")[0]
