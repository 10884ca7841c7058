"""Wrong variants of rightly rewritten objects, by class: one place of the file each.

Where calls, stubs and trampolines lie is asked of pyelftools; which calls there are, of the proof
of the right object.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from elftools.elf.elffile import ELFFile

from scpatch.verifier.types import SiteProof

NOP = 0x60000000
_STUB = ("r2save.", "r2thunk.", "r2toc.", "r2lps.")
_OTHER = (0x00, 0x02, 0x20, 0x22, 0x60, 0x62, 0x80, 0xE0, 0xE2)


class Mutation(NamedTuple):
    """A class, and the bytes that differ from the right object's."""

    kind: str
    what: str
    patches: tuple[tuple[int, bytes], ...]
    """(file offset, new bytes)"""

    def apply(self, data: bytes) -> bytes:
        result = bytearray(data)
        for offset, new in self.patches:
            result[offset : offset + len(new)] = new
        return bytes(result)


class Layout(NamedTuple):
    """Where things lie in a file: file offsets."""

    data: bytes
    code: dict[int, int]
    """By section index."""
    relas: dict[tuple[int, int], int]
    """By section index and r_offset: entries of branches."""
    symbols: dict[str, tuple[int, int, int, int]]
    """Stubs and trampolines by name: entry, section index, st_value, st_size."""
    headers: dict[str, int]
    """Section headers by name."""

    @property
    def order(self) -> str:
        """The byte order, for `struct`."""
        return ">" if self.data[5] == 2 else "<"

    def number(self, form: str, offset: int) -> int:
        return int(struct.unpack_from(self.order + form, self.data, offset)[0])

    def word(self, offset: int) -> int:
        return self.number("I", offset)

    def put(self, offset: int, number: int, form: str = "I") -> tuple[int, bytes]:
        """The patch that stores a number."""
        return offset, struct.pack(self.order + form, number)


def layout(path: Path) -> Layout:
    """Asks pyelftools."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        sections = list(elf.iter_sections())
        code = {i: s["sh_offset"] for i, s in enumerate(sections) if s["sh_flags"] & 4}
        relas = {}
        for section in sections:
            if section["sh_type"] == "SHT_RELA" and section["sh_info"] in code:
                for n, entry in enumerate(section.iter_relocations()):
                    if entry["r_info_type"] in (10, 116, 124):
                        at = section["sh_offset"] + 24 * n
                        relas[section["sh_info"], entry["r_offset"]] = at
        table = elf.get_section_by_name(".symtab")
        symbols = {
            symbol.name: (table["sh_offset"] + 24 * n, *_place(symbol))
            for n, symbol in enumerate(table.iter_symbols())
            if symbol.name.startswith((*_STUB, "__SCT__"))
        }
        headers = {s.name: elf["e_shoff"] + 64 * i for i, s in enumerate(sections)}
    return Layout(path.read_bytes(), code, relas, symbols, headers)


def _place(symbol: Any) -> tuple[int, int, int]:
    section = symbol["st_shndx"]
    return section if isinstance(section, int) else 0, symbol["st_value"], symbol["st_size"]


def mutations(at: Layout, sites: tuple[SiteProof, ...], before: Layout) -> Iterator[Mutation]:
    """All mutations of an object, class by class."""
    yield from _words(at, sites)
    yield from _relocations(at, sites)
    yield from _symbols(at)
    yield from _sections(at, before)
    yield from _bits(at, sites)


def _added(at: Layout) -> Iterator[tuple[str, int]]:
    """(symbol, file offset) of each word of code that was added."""
    for name, (_, section, value, size) in at.symbols.items():
        if name.startswith(_STUB) and section in at.code:
            for offset in range(0, size, 4):
                yield name, at.code[section] + value + offset


def _words(at: Layout, sites: tuple[SiteProof, ...]) -> Iterator[Mutation]:
    places = [(f"{s.section_name}+{s.offset:#x}", at.code[s.section] + s.offset + 4) for s in sites]
    places += [(name, place) for name, place in _added(at)]
    for name, place in places:
        word = at.word(place)
        if word >> 26 not in (58, 62):
            continue
        for register in (0, 3, 12, 13, 31):
            new = word & ~(31 << 21) | register << 21
            yield Mutation("register", f"{name}: r{register}", (at.put(place, new),))
        for base in (0, 2, 13, 31):
            if word >> 16 & 31 != base:
                new = word & ~(31 << 16) | base << 16
                yield Mutation("register", f"{name}: from r{base}", (at.put(place, new),))
        for slot in (-16, -8, 0, 8, 16, 20, 32, 40, 96):
            if word & 0xFFFC != slot & 0xFFFC:
                yield Mutation(
                    "slot", f"{name}: {slot}", (at.put(place, word & ~0xFFFC | slot & 0xFFFC),)
                )
        kind = "missing save" if word >> 26 == 62 else "missing restore"
        yield Mutation(kind, name, (at.put(place, NOP),))


def _relocations(at: Layout, sites: tuple[SiteProof, ...]) -> Iterator[Mutation]:
    own = [(f"{s.section_name}+{s.offset:#x}", at.relas.get((s.section, s.offset))) for s in sites]
    stubs = {
        (section, value + offset)
        for name, (_, section, value, size) in at.symbols.items()
        for offset in range(0, size, 4)
        if name.startswith(_STUB)
    }
    own += [(f"stub {o:#x}", at.relas[s, o]) for s, o in sorted(stubs) if (s, o) in at.relas]
    known = [(name, place) for name, place in own if place is not None]
    start = at.number("Q", at.headers[".symtab"] + 24)
    # r_info is a doubleword: the symbol in its upper half, the type in the lower.
    symbol, type_ = (12, 8) if at.order == "<" else (8, 12)
    numbers = {name: (entry - start) // 24 for name, (entry, *_) in at.symbols.items()}
    for name, place in known:
        old = at.word(place + symbol)
        for other, number in numbers.items():
            if number != old:
                new = at.put(place + symbol, number)
                kind = "wrong stub" if other.startswith(_STUB) else "wrong trampoline"
                yield Mutation(kind, f"{name}: {other}", (new,))
        for kind_of, new_type in (("none", 0), ("REL24_NOTOC", 116), ("REL14", 11)):
            yield Mutation(
                "relocation type", f"{name}: {kind_of}", (at.put(place + type_, new_type),)
            )
        for addend in (4, 8, -4):
            new = at.put(place + 16, addend, "q")
            yield Mutation("addend", f"{name}: {addend}", (new,))
    for (name, here), (other, there) in pairwise(known):
        a, b = at.data[here + 8 : here + 24], at.data[there + 8 : there + 24]
        if a != b:
            yield Mutation(
                "swapped relocations", f"{name}, {other}", ((here + 8, b), (there + 8, a))
            )


def _symbols(at: Layout) -> Iterator[Mutation]:
    for name, (entry, section, value, _) in at.symbols.items():
        if not section:
            continue
        for other in _OTHER:
            if at.data[entry + 5] != other:
                yield Mutation("st_other", f"{name}: {other:#x}", ((entry + 5, bytes([other])),))
        for distance in (-8, -4, 4, 8, 16):
            if value + distance >= 0:
                new = at.put(entry + 8, value + distance, "Q")
                yield Mutation("moved symbol", f"{name}: {distance}", (new,))
        yield Mutation("moved symbol", f"{name}: undefined", ((entry + 6, bytes(2)),))


def _sections(at: Layout, before: Layout) -> Iterator[Mutation]:
    for name, header in at.headers.items():
        if not name:
            continue
        yield Mutation("lost section", name, (at.put(header + 4, 0),))
        if name in before.headers:
            size = before.data[before.headers[name] + 32 : before.headers[name] + 40]
            if size != at.data[header + 32 : header + 40]:
                yield Mutation("lost section", f"what {name} got", ((header + 32, size),))


def _bits(at: Layout, sites: tuple[SiteProof, ...]) -> Iterator[Mutation]:
    """Each bit of a site, the word behind it, added code, their relocations, and the symbols."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for site in sites:
        place = at.code[site.section] + site.offset
        spans.setdefault("bit: site", []).append((place, 8))
        if (rela := at.relas.get((site.section, site.offset))) is not None:
            spans.setdefault("bit: relocation", []).append((rela, 24))
    spans["bit: added code"] = [(place, 4) for _, place in _added(at)]
    for name, (entry, *_) in at.symbols.items():
        kind = "stub" if name.startswith(_STUB) else "trampoline"
        spans.setdefault(f"bit: symbol of a {kind}", []).append((entry, 24))
    for kind, places in spans.items():
        for start, size in dict.fromkeys(places):
            for place in range(start, start + size):
                for bit in range(8):
                    new = bytes([at.data[place] ^ 1 << bit])
                    yield Mutation(kind, f"{place:#x}, bit {bit}", ((place, new),))
