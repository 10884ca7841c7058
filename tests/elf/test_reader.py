"""What the reader finds is what readelf and LIEF find, on objects of every compiler and linker."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from tests import elfwriter as ew
from tests.real.objects import libc_object
from tests.tools import (
    CLANG,
    CROSS,
    FIXTURES,
    GXX,
    LD,
    LIBC,
    LLD,
    compile_c,
    library,
    relocations,
    run,
    sections,
    symbols,
)

CALLS = FIXTURES / "calls.c"
THROWS = """
#include <string>
struct Guard { ~Guard(); };
std::string f(int x) { Guard guard; if (x) throw x; return std::to_string(x); }
template <class T> T twice(T x) { return x + x; }
int g(int x) { return twice(x) + static_cast<int>(twice(1.5)); }
"""


def merged(folder: Path, linker: str) -> Path:
    first = compile_c(folder, CALLS, "-O2", name="first.o")
    second = compile_c(folder, "static int x; int *f(void) { return &x; }", name="second.o")
    whole = folder / "merged.o"
    run(linker, "-r", "-o", whole, first, second)
    return whole


def stripped(folder: Path) -> Path:
    path = compile_c(folder, CALLS, "-O2", "-g")
    run("llvm-objcopy", "--strip-debug", path)
    return path


OBJECTS: dict[str, Callable[[Path], Path]] = {
    "gcc": lambda folder: compile_c(folder, CALLS, "-O2"),
    "gcc-sections": lambda folder: compile_c(folder, CALLS, "-ffunction-sections", "-g"),
    "gcc-dwarf-4": lambda folder: compile_c(folder, CALLS, "-O1", "-gdwarf-4"),
    "gcc-compressed": lambda folder: compile_c(folder, CALLS, "-g", "-gz"),
    "g++": lambda folder: compile_c(folder, THROWS, "-O2", compiler=GXX, language="c++"),
    "clang": lambda folder: compile_c(folder, CALLS, "-O2", compiler=CLANG),
    "clang-dwarf": lambda folder: compile_c(folder, CALLS, "-O2", "-g", compiler=CLANG),
    "ld": lambda folder: merged(folder, LD),
    "lld": lambda folder: merged(folder, LLD),
    "llvm-objcopy": stripped,
    "libc": libc_object,
    "crt1": lambda folder: Path(shutil.copy(LIBC.with_name("Scrt1.o"), folder)),
    "module": lambda folder: Path(shutil.copy(FIXTURES / "module.ko", folder)),
    "big-endian": lambda folder: Path(shutil.copy(FIXTURES / "big" / "merged.o", folder)),
    "big-endian ELFv1": lambda folder: Path(shutil.copy(FIXTURES / "ppc64-be.o", folder)),
}


@pytest.fixture(scope="module", params=OBJECTS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return OBJECTS[request.param](tmp_path_factory.mktemp("reader"))


def read(path: Path) -> ElfFile:
    return ElfFile(memoryview(path.read_bytes()), path.name)


def test_sections_against_readelf(path: Path) -> None:
    elf = read(path)
    theirs = sections(path)
    assert len(elf.sections) == len(theirs)
    for index, (ours, other) in enumerate(zip(elf.sections, theirs, strict=True)):
        assert elf.section_name(index) == other.name
        assert ours.sh_offset == other.offset
        assert (ours.sh_size, ours.sh_entsize) == (other.size, other.entsize)
        assert (ours.sh_link, ours.sh_info, ours.sh_addralign) == (
            other.link,
            other.info,
            other.align,
        )
        assert bool(ours.sh_flags & 4) == ("X" in other.flags)


def test_symbols_against_readelf(path: Path) -> None:
    elf = read(path)
    theirs = symbols(path)
    assert elf.symbols is not None
    assert len(elf.symbols) == len(theirs)
    names = {0: "UND", 0xFFF1: "ABS", 0xFFF2: "COM"}
    for other in theirs:
        ours = elf.symbols[other.index]
        assert (ours.st_value, ours.st_size) == (other.value, other.size)
        where = elf.symbols.section_index(other.index)
        assert names.get(where, str(where)) == other.section
        name = elf.symbols.name(other.index)
        # readelf prints a section symbol by its section's name, and marks none of them.
        assert name == other.name or (other.type == "SECTION" and not name)


def test_relocations_against_readelf(path: Path) -> None:
    elf = read(path)
    theirs = relocations(path)
    ours = []
    for target in sorted(elf.relocated, key=lambda section: elf.tables[section].ordinary):
        table = elf.relocations(target)
        assert table is not None
        name = elf.section_name(elf.tables[target].ordinary)
        ours += [
            (name, entry.r_offset, entry.symbol) for entry in (table[i] for i in range(len(table)))
        ]
    assert ours == [(entry.table, entry.offset, entry.symbol) for entry in theirs]


def test_addends_against_lief(path: Path) -> None:
    elf = read(path)
    other = library("lief").ELF.parse(str(path))
    assert other is not None
    ours: Counter[tuple[str, int, int]] = Counter()
    for target in elf.relocated:
        table = elf.relocations(target)
        assert table is not None
        for index in range(len(table)):
            entry = table[index]
            ours[elf.section_name(target), entry.r_offset, entry.r_addend] += 1
    theirs = Counter(
        (entry.section.name, entry.address, entry.addend)
        for entry in other.object_relocations
        if entry.section is not None
    )
    assert sum(ours.values()) > 0 or path.name == "x"
    assert ours == theirs


@pytest.mark.parametrize("ending", ["_fixup", ".text", "t", ""])
def test_sections_ending(path: Path, ending: str) -> None:
    wanted = [section.index for section in sections(path) if section.name.endswith(ending)]
    assert read(path).sections_ending(ending) == wanted


def test_content_against_objcopy(path: Path, tmp_path: Path) -> None:
    elf = read(path)
    for index, section in enumerate(elf.sections):
        name = elf.section_name(index)
        alone = len(elf.sections_named(name)) == 1
        if section.sh_type == 1 and section.sh_flags & 2 and section.sh_size and alone:
            out = tmp_path / "section"
            run(CROSS + "objcopy", "-O", "binary", "-j", name, path, out)
            assert out.read_bytes() == elf.content(index)


def text(count: int = 1, name: str = "__SCT__x") -> ew.Section:
    calls = [ew.Relocation(offset=8 * i, type=ew.R_PPC64_REL24, symbol=name) for i in range(count)]
    return ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        data=ew.words(ew.BL, ew.NOP) * count,
        addralign=4,
        relocations=calls,
    )


def many_sections(count: int) -> ew.Elf:
    fill = [ew.Section(name=f".s{index % 50}") for index in range(count)]
    last = ew.section_numbers(ew.Elf(sections=[*fill, text()]))[-1]
    names = [
        ew.Symbol(name="f", type=ew.STT_FUNC, bind=ew.STB_GLOBAL, section=last, size=8),
        ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL),
    ]
    return ew.Elf(sections=[*fill, text()], symbols=names)


@pytest.mark.parametrize("count", [65273, 65274, 65278, 65279])
def test_many_sections(tmp_path: Path, count: int) -> None:
    """Around the numbers that do not fit e_shnum, e_shstrndx and st_shndx any more."""
    path = tmp_path / "x.o"
    path.write_bytes(ew.build(many_sections(count)))
    elf = read(path)
    head = run(CROSS + "readelf", "-hW", path).stdout
    assert f"Number of section headers:         {elf.header.e_shnum}" in head
    assert elf.header.e_shnum or f"0 ({len(elf.sections)})" in head
    assert elf.symbols is not None
    (function,) = [entry for entry in symbols(path) if entry.name == "f"]
    assert elf.symbols.section_index(function.index) == int(function.section)
    assert elf.section_name(int(function.section)) == ".text"
    assert elf.symbols.homes([int(function.section)]) == {function.index: int(function.section)}


def test_extended_numbering_in_a_small_file() -> None:
    small = ew.Elf(
        sections=[text()],
        symbols=[
            ew.Symbol(name="f", section=".text", bind=ew.STB_GLOBAL),
            ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL),
        ],
        extended=True,
    )
    elf = ElfFile(memoryview(ew.build(small)), "x")
    assert elf.symbols is not None
    assert elf.symbols[1].st_shndx == ew.SHN_XINDEX
    assert elf.symbols.section_index(1) == 1
    assert elf.symbols.homes([1]) == {1: 1}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("merge", [False, True])
def test_string_tables(shared: bool, merge: bool) -> None:
    names = ["__SCT__x", "a__SCT__x", "SCT__x", "x", ".text", "b.text", "é", "n" * 500]
    elf = ElfFile(
        memoryview(
            ew.build(
                ew.Elf(
                    sections=[text(), ew.Section(name="c__SCT__x")],
                    symbols=[ew.Symbol(name=name, bind=ew.STB_GLOBAL) for name in names],
                    shared_strtab=shared,
                    tail_merge=merge,
                )
            )
        ),
        "x",
    )
    assert elf.symbols is not None
    assert [elf.symbols.name(index) for index in range(1, len(elf.symbols))] == names
    assert list(elf.symbols.with_prefix(b"__SCT__")) == [1]
    assert list(elf.symbols.with_prefix(b"n")) == [8]
    assert elf.section_name(1) == ".text"


@pytest.mark.parametrize("shift", [1, 2, 3, 5, 13])
def test_odd_offsets(tmp_path: Path, shift: int) -> None:
    """No table need be aligned in the file, nor in memory."""
    whole = ew.build(ew.Elf(sections=[text(3)], symbols=[ew.Symbol(name="__SCT__x", bind=1)]))
    elf = ElfFile(memoryview(whole), "x")
    head = 64
    moved = bytearray(whole[:head] + bytes(shift) + whole[head:])
    moved[40:48] = (elf.header.e_shoff + shift).to_bytes(8, "little")
    for index, section in enumerate(elf.sections):
        if section.sh_type:
            at = elf.header.e_shoff + shift + 64 * index + 24
            moved[at : at + 8] = (section.sh_offset + shift).to_bytes(8, "little")
    path = tmp_path / "x.o"
    path.write_bytes(moved)
    assert [entry.offset for entry in relocations(path)] == [0, 8, 16]
    table = read(path).relocations(1)
    assert table is not None
    assert list(table.r_offset) == [0, 8, 16]
    # As a member of an archive it lies at an odd address too.
    inside = ElfFile(memoryview(b"!" + bytes(moved))[1:], "x").relocations(1)
    assert inside is not None
    assert list(inside.r_addend) == [0, 0, 0]


BROKEN: dict[str, dict[str | int, dict[str, int]]] = {
    "entries of .symtab": {".symtab": {"sh_entsize": 16}},
    "size of .symtab": {".symtab": {"sh_size": 25}},
    "names of .symtab": {".symtab": {"sh_link": 1}},
    "names of nothing": {".symtab": {"sh_link": 99}},
    "symtab of itself": {".symtab": {"sh_link": 3}},
    "entries of .rela": {".rela.text": {"sh_entsize": 12}},
    "size of .rela": {".rela.text": {"sh_size": 23}},
    "symbols of .rela": {".rela.text": {"sh_link": 1}},
    "target of .rela": {".rela.text": {"sh_info": 99}},
    "two symbol tables": {".rela.text": {"sh_type": 2}},
    "two tables": {".strtab": {"sh_type": 4, "sh_info": 1}},
    "past the end": {".text": {"sh_size": 1 << 20}},
    "before the start": {".text": {"sh_offset": (1 << 64) - 4}},
    "unterminated": {".strtab": {"sh_size": 3}},
}


def look_at_all(elf: ElfFile) -> Iterator[object]:
    for index in range(len(elf.sections)):
        yield elf.section_name(index)
    for index in range(len(elf.symbols or ())):
        assert elf.symbols is not None
        yield elf.symbols.name(index), elf.symbols.section_index(index)
    for target in elf.code_sections():
        yield elf.relocations(target)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tables(name: str) -> None:
    description = ew.Elf(
        sections=[text()],
        symbols=[ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL)],
        section_headers=BROKEN[name],
    )
    with pytest.raises(ScpatchError) as caught:
        list(look_at_all(ElfFile(memoryview(ew.build(description)), "x.o")))
    assert (caught.value.code, caught.value.file) == ("SCP107", "x.o")


def test_a_sound_object_is_not_broken() -> None:
    description = ew.Elf(
        sections=[text()], symbols=[ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL)]
    )
    assert len(list(look_at_all(ElfFile(memoryview(ew.build(description)), "x.o")))) > 5
