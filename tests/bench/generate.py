"""Writes big ppc64le ELFv2 relocatable objects that look like a kernel's, in seconds.

    python -m tests.bench.generate --size 150M OUT

makes a valid object of that size: thousands of sections, 100,000 relocations on code and millions
on DWARF, hundreds of static calls in several code sections, and one string table in which names
end inside others. The same arguments give the same bytes. Memory stays small at any size: code
and DWARF of one compilation unit are made once, and repeated with other relocations.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from tests.bench import dwarf
from tests.bench.code import LOCAL_ENTRY, TRAMPOLINE, Block, assemble, make_block
from tests.bench.repeated import Placed, Symbols, sections
from tests.elfwriter import (
    R_PPC64_ADDR64,
    R_PPC64_REL32,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHF_WRITE,
    STB_GLOBAL,
    STT_FUNC,
    STT_SECTION,
    Elf,
    Relocation,
    Section,
    Stream,
    Symbol,
    write,
)

CODE = SHF_ALLOC | SHF_EXECINSTR
TYPES = 8192  # typedefs in a type unit
FUNCTIONS = 64  # functions in a unit of code
UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of everything an object holds."""

    functions: int  # in a unit of code
    units: int  # units of code in .text
    function_sections: int  # functions in separate sections, as -ffunction-sections makes them
    type_units: int  # units of debug information without code


def make_elf(shape: Shape, seed: int = 1) -> Elf:
    """The object as a description for `tests.elfwriter.write`."""
    code = _place_code(shape, seed)
    sites = sum(placed.count * placed.sites for placed in code)
    undefined = max(1, min(30, sites // 8))
    defined = max(1, min(200, sites - undefined))
    end_of_text = sum(placed.size for placed in code if placed.section == ".text")
    debug, debug_str = _place_debug(shape, code[0])
    data, fixups = assemble(TRAMPOLINE)
    code.append(Placed(".text", data, fixups, defined, start=end_of_text))

    section_symbols = [".text", ".data", ".debug_str", ".debug_abbrev", ".debug_line_str"]
    section_symbols += [placed.section for placed in debug if placed.section not in section_symbols]
    functions = sum(placed.count * len(placed.functions) for placed in code)
    numbers = {name: number for number, name in enumerate([*section_symbols, ".TOC."], 1)}
    offsets = tuple(end_of_text + len(data) * number for number in range(defined))
    first = len(section_symbols) + 2
    symbols = Symbols(numbers, first, first + functions, offsets, undefined)
    code_sections = sections(code, symbols, flags=CODE, addralign=16)
    return Elf(
        sections=[
            *code_sections,
            *_data_sections(symbols),
            *sections(debug, symbols, flags=0, addralign=1),
            Section(name=".debug_abbrev", data=dwarf.abbreviations()),
            _strings(".debug_line_str", dwarf.LINE_STRINGS),
            _strings(".debug_str", debug_str),
        ],
        symbols=[
            *(Symbol(type=STT_SECTION, section=name) for name in section_symbols),
            Symbol(name=".TOC.", bind=STB_GLOBAL),
            *_function_symbols(code),
            *_trampoline_symbols(symbols),
        ],
        shared_strtab=True,
    )


def shape_for(size: int, *, code_relocations: int | None = None, sections: int = 0) -> Shape:
    """A shape whose object has about `size` bytes, and as many relocations on code and sections.

    Where they are not given, code has one relocation for 1,500 bytes of the file, as a vmlinux.o.
    """
    if size < 100_000:
        fitting = (n for n in range(FUNCTIONS, 4, -1) if _size(Shape(n, 1, 0, 0)) <= size)
        return Shape(next(fitting, 4), 1, 0, 0)
    wanted = size // 1500 if code_relocations is None else code_relocations
    apart = min(12_000, wanted // 25) if not sections else sections // 2
    in_unit = len(make_block(FUNCTIONS, seed=1).fixups)
    units = max(1, (wanted - 7 * apart) * 5 // (in_unit * 6))
    without = Shape(FUNCTIONS, units, apart, 0)
    base = _size(without)
    one_more = _size(Shape(FUNCTIONS, units, apart, 1)) - base
    return Shape(FUNCTIONS, units, apart, max(0, (size - base) // one_more))


def _place_code(shape: Shape, seed: int) -> list[Placed]:
    """The code sections, .text first; each function and each site gets the next number."""
    block = make_block(shape.functions, seed=seed)
    few = [make_block(1, seed=seed + n, first_site=0 if n % 25 == 0 else 1) for n in range(1, 101)]
    placements = [(".text", block, shape.units)]
    if shape.function_sections:
        side = {".init.text": 10, ".text.unlikely": 10, ".sched.text": 50, ".noinstr.text": 50}
        placements += [(name, block, max(1, shape.units // part)) for name, part in side.items()]
    first_unit = sum(count for _, _, count in placements)
    for number in range(shape.function_sections):
        name = ".text." + dwarf.function_name(first_unit + number, 0)
        placements.append((name, few[number % len(few)], 1))
    out: list[Placed] = []
    functions = sites = unit = 0
    for name, block, count in placements:
        out.append(_placed(name, block, count, functions, sites, unit))
        functions += count * len(block.functions)
        sites += count * block.sites
        unit += count
    return out


def _placed(name: str, block: Block, count: int, function: int, site: int, unit: int) -> Placed:
    return Placed(
        section=name,
        data=block.data,
        fixups=block.fixups,
        count=count,
        functions=block.functions,
        sites=block.sites,
        first_function=function,
        first_site=site,
        first_unit=unit,
    )


def _place_debug(shape: Shape, text: Placed) -> tuple[list[Placed], Stream]:
    """The sections with DWARF that have relocations, and the contents of .debug_str."""
    block = Block(text.data, tuple(text.fixups), tuple(text.functions), text.sites)
    head = dwarf.PRODUCER + dwarf.UNIT_NAME
    names = shape.units * shape.functions * dwarf.NAME_SIZE
    line = dwarf.line_program(block)
    info = dwarf.code_unit(block, len(head), len(line.data))
    types, type_names = dwarf.type_unit(TYPES if shape.type_units else 0, len(head) + names)

    def strings() -> Iterator[bytes]:
        yield head
        for unit in range(shape.units):
            every = (dwarf.function_name(unit, number) for number in range(shape.functions))
            yield b"".join(name.encode() + b"\0" for name in every)
        yield from repeat(type_names, shape.type_units)

    def place(section: str, piece: dwarf.Piece, count: int, start: int = 0) -> Placed:
        return Placed(section, bytes(piece.data), piece.fixups, count, start)

    placed = [
        place(".debug_info", info, shape.units),
        place(".debug_info", types, shape.type_units, len(info.data) * shape.units),
        place(".debug_line", line, shape.units),
        place(".debug_aranges", dwarf.address_ranges(block, len(info.data)), shape.units),
        place(".debug_addr", dwarf.address_table(block), shape.units),
    ]
    size = len(head) + names + len(type_names) * shape.type_units
    return placed, Stream(size=size, chunks=strings)


def _trampoline_name(number: int) -> str:
    return f"__SCT__tp_func_event_{number:03}"


def _trampoline_symbols(symbols: Symbols) -> Iterator[Symbol]:
    for number, offset in enumerate(symbols.trampolines):
        yield Symbol(
            name=_trampoline_name(number),
            value=offset,
            size=4 * len(TRAMPOLINE),
            type=STT_FUNC,
            bind=STB_GLOBAL,
            other=LOCAL_ENTRY,
            section=".text",
        )
    for number in range(symbols.undefined):
        yield Symbol(name=_trampoline_name(len(symbols.trampolines) + number), bind=STB_GLOBAL)


def _function_symbols(code: Iterable[Placed]) -> Iterator[Symbol]:
    for placed in code:
        for unit in range(placed.count):
            for number, (offset, size) in enumerate(placed.functions):
                yield Symbol(
                    name=dwarf.function_name(placed.first_unit + unit, number),
                    value=placed.start + unit * len(placed.data) + offset,
                    size=size,
                    type=STT_FUNC,
                    bind=STB_GLOBAL,
                    other=LOCAL_ENTRY,
                    section=placed.section,
                )


def _data_sections(symbols: Symbols) -> Iterator[Section]:
    """References to the trampolines that are no calls: a table of addresses, and export entries."""
    names = [_trampoline_name(number) for number in range(len(symbols.trampolines))]
    slots = [
        Relocation(offset=64 + 8 * number, type=R_PPC64_ADDR64, symbol=name)
        for number, name in enumerate(names)
    ]
    data = bytes(64 + 8 * len(names))
    flags = SHF_ALLOC | SHF_WRITE
    yield Section(name=".data", flags=flags, addralign=8, data=data, relocations=slots)
    for name in names:
        entry = [Relocation(offset=0, type=R_PPC64_REL32, symbol=name)]
        export = "___ksymtab+" + name
        yield Section(name=export, flags=SHF_ALLOC, addralign=4, data=bytes(12), relocations=entry)


def _strings(name: str, data: bytes | Stream) -> Section:
    return Section(name=name, flags=SHF_MERGE | SHF_STRINGS, data=data, entsize=1)


def _size(shape: Shape) -> int:
    """About how many bytes the object of this shape has."""
    elf = make_elf(shape)
    total = 64 + 24 * len(elf.symbols) + sum(len(symbol.name) + 1 for symbol in elf.symbols)
    for section in elf.sections:
        data = section.data
        total += 64 + (data.size if isinstance(data, Stream) else len(data))
        total += 0 if section.relocations is None else 64 + 24 * len(section.relocations)
    return total


def _bytes(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]] if text[-1:] in UNITS else int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.generate", description=__doc__)
    parser.add_argument("--size", type=_bytes, default=_bytes("150M"), help="6K, 150M, 1G")
    parser.add_argument("--code-relocations", type=int, help="default: size / 1500")
    parser.add_argument("--sections", type=int, default=0, help="at least so many sections")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("out", type=Path)
    args = parser.parse_args(arguments)
    shape = shape_for(args.size, code_relocations=args.code_relocations, sections=args.sections)
    with args.out.open("wb") as out:
        write(make_elf(shape, args.seed), out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, {shape}", file=sys.stderr)


if __name__ == "__main__":
    main()
