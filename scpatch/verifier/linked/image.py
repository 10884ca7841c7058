"""A linked image: its code by address, its trampolines, and where branches lead to."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from scpatch.verifier.objects.calls import Calls
from scpatch.verifier.objects.read import (
    ET_DYN,
    ET_EXEC,
    SHF_ALLOC,
    STT_FILE,
    STT_SECTION,
    Image,
    Place,
    Symbol,
    read,
)
from scpatch.verifier.objects.stubs import STUB_NAME, unescaped
from scpatch.verifier.objects.trampolines import Trampoline

_RELATIVE = 22
"""R_PPC64_RELATIVE"""
_I_FORM, _B_FORM = 18, 16
_TOC_BIAS = 0x8000
"""The TOC pointer is that far behind the start of .got (ELFv2 ABI, TOC)."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch at `place` to the address `to`."""

    place: Place
    to: int


@dataclass(frozen=True, eq=False)
class Linked:
    """An image. `calls` has its symbols with section offsets as in an object; addresses are those
    that it was linked to."""

    calls: Calls

    @property
    def image(self) -> Image:
        return self.calls.image

    @cached_property
    def _starts(self) -> list[tuple[int, int]]:
        """(address, index) of each section of code, sorted."""
        return sorted((self.image.address(one.number), one.number) for one in self.image.code)

    def address(self, place: Place) -> int:
        return self.image.address(place.section) + place.offset

    def place(self, address: int) -> Place | None:
        """Where in the code an address is."""
        at = bisect_right(self._starts, (address, len(self.image.sections))) - 1
        if at < 0:
            return None
        start, section = self._starts[at]
        inside = address - start < self.image.sections[section].size
        return Place(section, address - start) if inside else None

    @cached_property
    def entries(self) -> dict[int, Trampoline]:
        """The entry points of trampolines, by address."""
        found: dict[int, Trampoline] = {}
        code = {one.number for one in self.image.code}
        for place, (one, *_) in self.calls.trampolines.items():
            if place.section in code:
                start = self.image.address(place.section)
                found[start + one.place.offset] = found[start + one.local_entry] = one
        return found

    @cached_property
    def named(self) -> dict[str, Trampoline]:
        """The trampolines by their names."""
        return {one.symbol.name: one for here in self.calls.trampolines.values() for one in here}

    @cached_property
    def stubs(self) -> dict[int, tuple[str, Symbol]]:
        """The stubs of scpatch's that save r2, by address: whose trampoline each is, and its
        symbol."""
        found = {}
        for one in self.image.symbols:
            match = STUB_NAME.fullmatch(one.name) if one.section > 0 else None
            if match is not None and match[1] == "save":
                name = unescaped(match[2])
                if any(fnmatchcase(name, glob) for glob in self.calls.globs):
                    found[self.address(Place(one.section, one.value))] = name, one
        return found

    def names(self, trampoline: str) -> tuple[str, ...]:
        """All names of the trampoline that has this one."""
        return self._names.get(trampoline, (trampoline,))

    @cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        found = {}
        for here in self.calls.trampolines.values():
            names = tuple(dict.fromkeys(one.symbol.name for one in here))
            found.update(dict.fromkeys(names, names))
        return found

    @cached_property
    def _insides(self) -> list[tuple[int, int, Trampoline]]:
        """(start, end) of trampolines by address, sorted."""
        found = [
            (self.address(one.place), self.address(one.place) + max(one.symbol.size, 4), one)
            for one in {id(one): one for one in self.entries.values()}.values()
        ]
        return sorted(found, key=lambda row: row[:2])

    def inside(self, address: int) -> Trampoline | None:
        """The trampoline that an address is in."""
        at = bisect_right(self._insides, address, key=lambda row: row[0]) - 1
        if at < 0 or address >= self._insides[at][1]:
            return None
        return self._insides[at][2]

    def branches(self) -> Iterator[Branch]:
        """All branches to addresses that they name themselves."""
        for section in self.image.code:
            start = self.image.address(section.number)
            for number, word in enumerate(self.calls.words(section.number)):
                opcode = word >> 26
                if opcode in (_I_FORM, _B_FORM):
                    bits = 26 if opcode == _I_FORM else 16
                    distance = word & ((1 << bits) - 4)
                    distance -= (distance >> (bits - 1)) << bits
                    base = 0 if word & 2 else start + 4 * number
                    yield Branch(Place(section.number, 4 * number), base + distance)

    @cached_property
    def entered(self) -> frozenset[int]:
        """The addresses that branches lead to."""
        return frozenset(branch.to for branch in self.branches())

    @cached_property
    def labels(self) -> frozenset[Place]:
        """Where symbols point that name something."""
        return frozenset(
            Place(one.section, one.value)
            for one in self.image.symbols
            if one.section > 0 and one.type not in (STT_SECTION, STT_FILE)
        )

    @cached_property
    def symbols(self) -> dict[str, int]:
        """The addresses of the symbols __start_* and __stop_*."""
        return {
            one.name: self.image.address(one.section) + one.value
            for one in self.image.symbols
            if one.section > 0 and one.name.startswith(("__start_", "__stop_"))
        }

    @cached_property
    def toc(self) -> int | None:
        """What r2 holds in the image; None where that is not to be found."""
        for symbol in self.image.symbols:
            if symbol.name == ".TOC." and symbol.section > 0:
                return self.image.address(symbol.section) + symbol.value
        gots = [self.image.address(one.number) for one in self.image.sections if one.name == ".got"]
        return gots[0] + _TOC_BIAS if gots else None

    def doubleword(self, address: int) -> int | None:
        """What the image holds at an address when it runs where it was linked to."""
        if address in self._relocated:
            return self._relocated[address]
        for section in self.image.sections:
            at = address - self.image.address(section.number)
            if section.flags & SHF_ALLOC and section.has_bytes and 0 <= at <= section.size - 8:
                return int.from_bytes(self.image.content(section.number)[at : at + 8], "little")
        return None

    @cached_property
    def _relocated(self) -> dict[int, int]:
        """The pointers of a position-independent image, by address."""
        found: dict[int, int] = {}
        for section in self.image.sections:
            if section.name == ".rela.dyn":
                table = struct.iter_unpack("<QQQ", self.image.content(section.number))
                found |= {at: to for at, info, to in table if info & 0xFFFFFFFF == _RELATIVE}
        return found


def read_image(path: Path, trampolines: Sequence[str]) -> Linked:
    """Reads a linked image. Raises UnreadableError, OSError."""
    image = read(path, (ET_EXEC, ET_DYN))
    starts = [image.address(one.number) for one in image.sections]
    symbols = tuple(
        one._replace(value=one.value - starts[one.section]) if one.section > 0 else one
        for one in image.symbols
    )
    return Linked(Calls(replace(image, symbols=symbols), tuple(trampolines)))
