"""A linked image: its code by address, its trampolines, and where branches lead to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from scpatch.verifier.objects.insn import target
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
from scpatch.verifier.objects.trampolines import Targets, Trampoline
from scpatch.verifier.objects.variant import LOCAL_ENTRY

_RELATIVE = 22
"""R_PPC64_RELATIVE"""
_TOC_BIAS = 0x8000
"""The TOC pointer is that far past the start of .got (ELFv2 ABI, TOC)."""


@dataclass(frozen=True, eq=False)
class Linked(Targets):
    """A linked image. Its symbols have section offsets as in an object. Addresses are those that it
    was linked to."""

    @cached_property
    def _code_starts(self) -> list[tuple[int, int]]:
        """(address, index) of each section of code, sorted."""
        code = self.image.code
        return sorted((section.address, section.number) for section in code)

    def address(self, place: Place) -> int:
        return self.image.sections[place.section].address + place.offset

    def place(self, address: int) -> Place | None:
        """The place in the code of an address."""
        at = bisect_right(self._code_starts, (address, len(self.image.sections))) - 1
        if at < 0:
            return None
        start, section = self._code_starts[at]
        inside = address - start < self.image.sections[section].size
        return Place(section, address - start) if inside else None

    def function_at(self, address: int) -> Symbol | None:
        """The function symbol that covers an address."""
        place = self.place(address)
        return self.image.function_at(place) if place is not None else None

    @cached_property
    def entries(self) -> dict[int, Trampoline]:
        """The entry points of trampolines, by address."""
        entries: dict[int, Trampoline] = {}
        code = {section.number for section in self.image.code}
        for place, (trampoline, *_) in self.trampolines.items():
            if place.section in code:
                start = self.image.sections[place.section].address
                entries[start + place.offset] = trampoline
                entries[start + trampoline.local_entry] = trampoline
        return entries

    @cached_property
    def named(self) -> dict[str, Trampoline]:
        """The trampolines by their names."""
        trampolines = chain.from_iterable(self.trampolines.values())
        return {trampoline.symbol.name: trampoline for trampoline in trampolines}

    def aliases(self, trampoline: str) -> tuple[str, ...]:
        """All names of the trampoline that has this one."""
        if trampoline not in self.named:
            return (trampoline,)
        same = self.trampolines[self.named[trampoline].place]
        return tuple(dict.fromkeys(alias.symbol.name for alias in same))

    @cached_property
    def stubs(self) -> dict[int, tuple[str, Symbol]]:
        """The stubs that a rewrite has added, by address: the name of the trampoline that each is
        for, and its symbol."""
        stubs = {}
        for symbol in self.image.symbols:
            match = STUB_NAME.fullmatch(symbol.name) if symbol.section > 0 else None
            if match is not None and match[1] == "save":
                name = unescaped(match[2])
                if self.is_named(name):
                    stubs[self.address(Place(symbol.section, symbol.value))] = name, symbol
        return stubs

    @cached_property
    def _spans(self) -> list[tuple[range, Trampoline]]:
        """The trampolines and their addresses, sorted."""
        spans = []
        for trampoline in {id(entry): entry for entry in self.entries.values()}.values():
            start = self.address(trampoline.place)
            spans.append((range(start, start + max(trampoline.symbol.size, 4)), trampoline))
        return sorted(spans, key=lambda span: (span[0].start, span[0].stop))

    def inside(self, address: int) -> Trampoline | None:
        """The trampoline that an address is in."""
        at = bisect_right(self._spans, address, key=lambda span: span[0].start) - 1
        return self._spans[at][1] if at >= 0 and address in self._spans[at][0] else None

    def decode_branches(self) -> Iterator[tuple[Place, int]]:
        """All branches that name their target, and its address."""
        for section in self.image.code:
            start = section.address
            for number, word in enumerate(self.words(section.number)):
                if word >> 26 in (16, 18):  # I-form and B-form
                    # Of an absolute branch, the same field is the address.
                    to = target(word & ~2, 0 if word & 2 else start + 4 * number)
                    assert to is not None, "it is a branch"
                    yield Place(section.number, 4 * number), to

    @cached_property
    def entered(self) -> frozenset[int]:
        """The addresses that branches lead to."""
        return frozenset(to for _, to in self.decode_branches())

    @cached_property
    def labels(self) -> dict[Place, list[Symbol]]:
        """The symbols by place, except those of sections and files."""
        labels: dict[Place, list[Symbol]] = {}
        for symbol in self.image.symbols:
            if symbol.section > 0 and symbol.type not in (STT_SECTION, STT_FILE):
                labels.setdefault(Place(symbol.section, symbol.value), []).append(symbol)
        return labels

    @cached_property
    def starts(self) -> dict[Place, list[Symbol]]:
        """The symbols by the places where calls enter what they name: global and local entries."""
        starts = {place: [*symbols] for place, symbols in self.labels.items()}
        for place, symbols in self.labels.items():
            for symbol in symbols:
                if distance := LOCAL_ENTRY[symbol.other >> 5]:
                    starts.setdefault(place.after(distance), []).append(symbol)
        return starts

    @cached_property
    def symbols(self) -> dict[str, int]:
        """The addresses of the symbols __start_* and __stop_*."""
        return {
            symbol.name: self.image.sections[symbol.section].address + symbol.value
            for symbol in self.image.symbols
            if symbol.section > 0 and symbol.name.startswith(("__start_", "__stop_"))
        }

    @cached_property
    def toc(self) -> int | None:
        """The value of r2 in the image; None if there is no TOC."""
        for symbol in self.image.symbols:
            if symbol.name == ".TOC." and symbol.section > 0:
                return self.image.sections[symbol.section].address + symbol.value
        gots = [section.number for section in self.image.sections if section.name == ".got"]
        return self.image.sections[gots[0]].address + _TOC_BIAS if gots else None

    @cached_property
    def _loaded(self) -> list[tuple[int, int, int]]:
        """(address, size, file offset) of each section that is loaded from the file."""
        return [
            (section.address, section.size, section.offset)
            for section in self.image.sections
            if section.flags & SHF_ALLOC and section.has_bytes
        ]

    def doubleword(self, address: int) -> int | None:
        """What the image holds at an address when it runs where it was linked to."""
        if address in self._relocated:
            return self._relocated[address]
        data = self._bytes(address)
        return None if data is None else self.image.variant.number(data)

    def two_distances(self, address: int) -> tuple[int, int]:
        """The two signed words at an address; zero if nothing is there."""
        first, second = self.image.variant.struct("ii").unpack(self._bytes(address) or bytes(8))
        return first, second

    def _bytes(self, address: int) -> bytes | None:
        """The eight bytes of the file at an address."""
        for start, size, offset in self._loaded:
            if 0 <= address - start <= size - 8:
                at = offset + address - start
                return self.image.data[at : at + 8]
        return None

    @cached_property
    def _relocated(self) -> dict[int, int]:
        """The pointers of a position-independent image, by address."""
        pointers: dict[int, int] = {}
        for section in self.image.sections:
            if section.name == ".rela.dyn":
                content = self.image.content(section.number)
                table = self.image.variant.struct("QQQ").iter_unpack(content)
                pointers |= {at: to for at, info, to in table if info & 0xFFFFFFFF == _RELATIVE}
        return pointers


def read_image(path: Path) -> Image:
    """Reads a linked image. Raises UnreadableError, OSError."""
    return read(path, (ET_EXEC, ET_DYN))


def find_trampolines(image: Image, trampolines: Sequence[str]) -> Linked:
    """The image with its trampolines, whose names match one of the patterns."""
    starts = [section.address for section in image.sections]
    symbols = tuple(
        symbol._replace(value=symbol.value - starts[symbol.section])
        if symbol.section > 0
        else symbol
        for symbol in image.symbols
    )
    return Linked(replace(image, symbols=symbols), tuple(trampolines))


def signed(value: int, bits: int) -> int:
    """The low `bits` of a value as a signed number."""
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)
