"""Blocks of bytes, made once, repeated in a section with relocations that differ each time."""

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat

from tests.bench.code import Fixup
from tests.elfwriter import SHF_INFO_LINK, SHT_RELA, Section, Stream


@dataclass(frozen=True, slots=True)
class Placed:
    """Equal blocks, one behind the other in a section from offset `start` on."""

    section: str
    data: bytes
    fixups: Sequence[Fixup]
    count: int
    start: int = 0
    functions: Sequence[tuple[int, int]] = ()
    sites: int = 0
    first_function: int = 0
    first_site: int = 0
    first_unit: int = 0

    @property
    def size(self) -> int:
        return len(self.data) * self.count


@dataclass(frozen=True, slots=True)
class Symbols:
    """The numbers of the symbols of sections, functions and trampolines."""

    sections: dict[str, int]
    first_function: int
    first_trampoline: int
    trampolines: tuple[int, ...]  # offset in .text of each that is defined
    undefined: int  # trampolines that are not, numbered behind the others

    def resolve(self, placed: Placed, symbol: str, unit: int) -> tuple[int, int]:
        """The symbol of a fixup in the given unit, and what it adds to the addend."""
        kind, number = symbol.split(":")
        if kind == "function":
            unit_start = placed.first_function + unit * len(placed.functions)
            return self.first_function + unit_start + int(number), 0
        site = placed.first_site + unit * placed.sites + int(number)
        if kind == "section+":
            return self.sections[".text"], self.trampolines[site % len(self.trampolines)]
        return self.first_trampoline + site % (len(self.trampolines) + self.undefined), 0


def sections(
    placements: Iterable[Placed], symbols: Symbols, *, flags: int, addralign: int
) -> Iterator[Section]:
    """The sections that the blocks make up, each with its .rela behind it."""
    by_name: dict[str, list[Placed]] = {}
    for placed in placements:
        by_name.setdefault(placed.section, []).append(placed)
    for name, parts in by_name.items():
        data = Stream(size=sum(p.size for p in parts), chunks=partial(_contents, parts))
        yield Section(name=name, flags=flags, addralign=addralign, data=data)
        yield Section(
            name=".rela" + name,
            type=SHT_RELA,
            flags=SHF_INFO_LINK,
            data=Stream(
                size=24 * sum(p.count * len(p.fixups) for p in parts),
                chunks=partial(_relocations, parts, symbols),
            ),
            link=".symtab",
            info=name,
            addralign=8,
            entsize=24,
        )


def _contents(parts: Iterable[Placed]) -> Iterator[bytes]:
    return chain.from_iterable(repeat(placed.data, placed.count) for placed in parts)


def _relocations(parts: Iterable[Placed], symbols: Symbols) -> Iterator[bytes]:
    """The Elf64_Rela entries, unit after unit, made column by column: there are millions."""
    for placed in parts:
        fixups = placed.fixups
        moving = [number for number, fixup in enumerate(fixups) if ":" in fixup.symbol]
        r_info = array("Q", [symbols.sections.get(f.symbol, 0) << 32 | f.type for f in fixups])
        for unit in range(placed.count):
            base = placed.start + unit * len(placed.data)
            rows = array("Q", bytes(24 * len(fixups)))
            rows[0::3] = array("Q", [f.offset + base for f in fixups])
            rows[1::3] = r_info
            rows[2::3] = array("Q", [f.addend + unit * f.moves for f in fixups])
            for number in moving:
                symbol, more = symbols.resolve(placed, fixups[number].symbol, unit)
                rows[3 * number + 1] |= symbol << 32
                rows[3 * number + 2] += more
            if sys.byteorder == "big":
                rows.byteswap()
            yield rows.tobytes()
