"""Holds the ELF writer of the tests against readelf, LIEF, GNU ld and both objcopys."""

import io
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.elfwriter import (
    BL,
    BLR,
    EM_PPC,
    NOP,
    R_PPC64_ADDR64,
    R_PPC64_REL24,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_GROUP,
    SHF_WRITE,
    SHN_ABS,
    SHT_GROUP,
    SHT_NOBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_SECTION,
    STV_HIDDEN,
    Elf,
    Relocation,
    Section,
    Stream,
    Symbol,
    build,
    section_numbers,
    string_table,
    words,
    write,
)
from tests.tools import CROSS, LD, LLD, library

CODE = SHF_ALLOC | SHF_EXECINSTR
CALLS = [
    Relocation(offset=0, type=R_PPC64_REL24, symbol="__SCT__x"),
    Relocation(offset=8, type=R_PPC64_REL24, symbol=".init.text", addend=4),
]
SAMPLE = Elf(
    sections=[
        Section(
            name=".text",
            flags=CODE,
            addralign=16,
            data=words(BL, NOP, BL, NOP, BLR),
            relocations=CALLS,
        ),
        Section(name=".init.text", flags=CODE, addralign=4, data=words(BLR, BLR)),
        Section(
            name=".data",
            flags=SHF_ALLOC | SHF_WRITE,
            addralign=8,
            data=bytes(8),
            relocations=[Relocation(offset=0, type=R_PPC64_ADDR64, symbol="f", addend=-8)],
        ),
        Section(name=".bss", type=SHT_NOBITS, flags=SHF_ALLOC | SHF_WRITE, size=40, addralign=64),
        Section(name="___ksymtab+__SCT__x", data=b"last"),
    ],
    symbols=[
        Symbol(type=STT_SECTION, section=".text"),
        Symbol(type=STT_SECTION, section=".init.text"),
        Symbol(name="local", value=4, section=".init.text"),
        Symbol(name="f", size=20, type=STT_FUNC, bind=STB_GLOBAL, section=".text", other=0x60),
        Symbol(name="weak", value=8, bind=STB_WEAK, other=STV_HIDDEN, section=".text"),
        Symbol(name="__SCT__x", bind=STB_GLOBAL),
        Symbol(name="absolute", value=5, bind=STB_GLOBAL, st_shndx=SHN_ABS),
    ],
)
VARIANTS = {
    "plain": SAMPLE,
    "shared": replace(SAMPLE, shared_strtab=True),
    "unmerged": replace(SAMPLE, tail_merge=False),
    "extended": replace(SAMPLE, extended=True),
    "extended-shared": replace(SAMPLE, extended=True, shared_strtab=True),
}
Put = Callable[[Elf], Path]


def run(*command: str | Path) -> str:
    """Standard output of a tool that must end well and have nothing to say besides."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def put_file(elf: Elf) -> Path:
        path = tmp_path / "sample.o"
        path.write_bytes(build(elf))
        return path

    return put_file


def rows(text: str, first: str) -> list[str]:
    """The lines that start with the pattern `first`, each run of blanks replaced by a blank."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if re.match(first, line)]


@pytest.mark.parametrize("name", VARIANTS)
def test_readelf_reads_what_was_described(put: Put, name: str) -> None:
    path = put(VARIANTS[name])
    lines = rows(run("readelf", "-SW", path), r"\[ ?\d")
    sections = [re.sub(r"([0-9a-f]{16}) \w{6}", r"\1", row) for row in lines]
    assert sections[1:8] == [
        "[ 1] .text PROGBITS 0000000000000000 000014 00 AX 0 0 16",
        "[ 2] .rela.text RELA 0000000000000000 000030 18 I 8 1 8",
        "[ 3] .init.text PROGBITS 0000000000000000 000008 00 AX 0 0 4",
        "[ 4] .data PROGBITS 0000000000000000 000008 00 WA 0 0 8",
        "[ 5] .rela.data RELA 0000000000000000 000018 18 I 8 4 8",
        "[ 6] .bss NOBITS 0000000000000000 000028 00 WA 0 0 64",
        "[ 7] ___ksymtab+__SCT__x PROGBITS 0000000000000000 000004 00 0 0 1",
    ]
    assert len(sections) == 10 + ("extended" in name) + ("shared" not in name)
    assert rows(run("readelf", "-sW", path), r"\d+:") == [
        "0: 0000000000000000 0 NOTYPE LOCAL DEFAULT UND",
        "1: 0000000000000000 0 SECTION LOCAL DEFAULT 1 .text",
        "2: 0000000000000000 0 SECTION LOCAL DEFAULT 3 .init.text",
        "3: 0000000000000004 0 NOTYPE LOCAL DEFAULT 3 local",
        "4: 0000000000000000 20 FUNC GLOBAL DEFAULT [<localentry>: 8] 1 f",
        "5: 0000000000000008 0 NOTYPE WEAK HIDDEN 1 weak",
        "6: 0000000000000000 0 NOTYPE GLOBAL DEFAULT UND __SCT__x",
        "7: 0000000000000005 0 NOTYPE GLOBAL DEFAULT ABS absolute",
    ]
    assert rows(run("readelf", "-rW", path), "0") == [
        "0000000000000000 000000060000000a R_PPC64_REL24 0000000000000000 __SCT__x + 0",
        "0000000000000008 000000020000000a R_PPC64_REL24 0000000000000000 .init.text + 4",
        "0000000000000000 0000000400000026 R_PPC64_ADDR64 0000000000000000 f - 8",
    ]


# LIEF 1.0.0 does not know the extended numbering: it finds no section there.
@pytest.mark.parametrize("name", [name for name in VARIANTS if "extended" not in name])
def test_lief_reads_the_same_contents(put: Put, name: str) -> None:
    binary = library("lief").ELF.parse(put(VARIANTS[name]))
    assert binary is not None
    contents = {section.name: bytes(section.content) for section in binary.sections}
    for section in SAMPLE.sections:
        if section.type == SHT_NOBITS:
            continue
        assert contents[section.name] == section.data
    got = [(sym.name, sym.value, sym.size, sym.other) for sym in binary.symtab_symbols][1:]
    assert got == [(sym.name, sym.value, sym.size, sym.other) for sym in SAMPLE.symbols]
    relocations = [(reloc.address, reloc.addend) for reloc in binary.relocations]
    assert sorted(relocations) == [(0, -8), (0, 0), (8, 4)]


@pytest.mark.parametrize("tool", [CROSS + "objcopy", "llvm-objcopy"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_copy_by_objcopy_reads_the_same(put: Put, tmp_path: Path, name: str, tool: str) -> None:
    path, copy = put(VARIANTS[name]), tmp_path / "copy.o"
    run(tool, path, copy)
    for option in ("-rW", "-x.text", "-x.data"):
        copied = rows(run("readelf", option, copy), "0")
        assert copied == rows(run("readelf", option, path), "0") != []


@pytest.mark.parametrize("name", VARIANTS)
def test_linkers_take_the_file_without_a_word(put: Put, tmp_path: Path, name: str) -> None:
    path = put(VARIANTS[name])
    for linker in (LD, LLD):
        out = tmp_path / "out.o"
        assert run(linker, "-m", "elf64lppc", "-r", path, "-o", out) == ""
        assert any("__SCT__x" in row for row in rows(run("readelf", "-rW", out), "0"))


def test_more_than_65279_sections(put: Put) -> None:
    call = [Relocation(offset=0, type=R_PPC64_REL24, symbol="__SCT__x")]
    data = words(BL, NOP, BLR)
    texts = [
        Section(name=f".text.f{i}", flags=CODE, addralign=4, data=data, relocations=call)
        for i in range(33000)
    ]
    functions = [
        Symbol(name=f"f{i}", size=12, type=STT_FUNC, bind=STB_GLOBAL, section=f".text.f{i}")
        for i in range(33000)
    ]
    elf = Elf(sections=texts, symbols=[*functions, Symbol(name="__SCT__x", bind=STB_GLOBAL)])
    path = put(elf)
    assert "Number of section headers: 0 (66005)" in rows(run("readelf", "-hW", path), "Number")
    last = rows(run("readelf", "-sW", path), "33000:")
    assert last == [f"33000: {0:016x} 12 FUNC GLOBAL DEFAULT {section_numbers(elf)[-1]} f32999"]
    assert section_numbers(elf)[-1] == 65999


def test_a_32_bit_big_endian_file(put: Put) -> None:
    text = Section(name=".text", flags=CODE, data=words(BLR, byteorder="big"))
    call = Relocation(offset=4, type=1, symbol="f", addend=-4)
    debug = Section(name=".debug", data=bytes(8), relocations=[call])
    symbol = Symbol(name="f", value=0, size=4, type=STT_FUNC, bind=STB_GLOBAL, section=".text")
    elf = Elf(
        sections=[text, debug],
        symbols=[symbol],
        machine=EM_PPC,
        flags=0,
        bits=32,
        byteorder="big",
    )
    path = put(elf)
    assert "Class: ELF32" in rows(run("readelf", "-hW", path), "Class")
    assert rows(run("readelf", "-sW", path), "1:") == ["1: 00000000 4 FUNC GLOBAL DEFAULT 1 f"]
    assert rows(run("readelf", "-rW", path), "0000") == [
        "00000004 00000101 R_PPC_ADDR32 00000000 f - 4"
    ]


def test_overrides_change_one_field_and_move_nothing() -> None:
    plain = build(SAMPLE)
    lying = build(
        replace(
            SAMPLE,
            header={"e_shstrndx": 77},
            section_headers={".text": {"sh_size": 1 << 60}, 4: {"sh_link": 9}},
            trailer=b"~Module signature appended~\n",
        )
    )
    assert lying.endswith(b"~\n")
    (shoff,) = struct.unpack_from("<Q", plain, 40)
    expected = bytearray(plain)
    struct.pack_into("<H", expected, 62, 77)
    struct.pack_into("<Q", expected, shoff + 64 + 32, 1 << 60)
    struct.pack_into("<I", expected, shoff + 4 * 64 + 40, 9)
    assert lying[: len(plain)] == expected


def test_a_group_names_its_signature_symbol(put: Put) -> None:
    group = Section(
        name=".group",
        type=SHT_GROUP,
        data=words(1, 2),
        link=".symtab",
        info="f",
        addralign=4,
        entsize=4,
    )
    text = Section(name=".text.f", flags=CODE | SHF_GROUP, addralign=4, data=words(BLR))
    symbol = Symbol(name="f", bind=STB_GLOBAL, section=".text.f")
    path = put(Elf(sections=[group, text], symbols=[symbol]))
    groups = " ".join(run("readelf", "-gW", path).split())
    assert "COMDAT group section [ 1] `.group' [f] contains 1 sections:" in groups
    assert groups.endswith("[ 2] .text.f")


def test_a_stream_is_written_chunk_by_chunk() -> None:
    parts = [b"abc", b"", b"defgh"]
    section = Section(name=".debug_info", data=Stream(size=8, chunks=lambda: parts))
    out = io.BytesIO()
    write(Elf(sections=[section]), out)
    joined = replace(section, data=b"".join(parts))
    assert out.getvalue() == build(Elf(sections=[joined]))
    short = replace(section, data=Stream(size=9, chunks=lambda: parts))
    with pytest.raises(ValueError, match=r"\.debug_info: 8 bytes came, 9 were said"):
        build(Elf(sections=[short]))


@pytest.mark.parametrize(
    ("elf", "message"),
    [
        (Elf(symbols=[Symbol(name="a", section=".text")]), "0 sections are named '.text'"),
        (Elf(sections=[Section(name="x")] * 2, symbols=[Symbol(section="x")]), "2 sections are"),
        (Elf(symbols=[Symbol(bind=STB_GLOBAL), Symbol(bind=STB_LOCAL)]), "follows a global"),
        (Elf(header={"e_nothing": 1}), "no such field: e_nothing"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(elf: Elf, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(elf)


def test_a_value_too_big_for_its_field_is_not_cut() -> None:
    with pytest.raises(struct.error):
        build(Elf(header={"e_shnum": 0x10000}))


@given(st.lists(st.text(alphabet="_SCTx+", max_size=8)), st.booleans())
def test_every_string_lies_at_its_offset(strings: list[str], tail_merge: bool) -> None:
    table, offsets = string_table(strings, tail_merge=tail_merge)
    for text in strings:
        end = table.index(b"\0", offsets[text])
        assert table[offsets[text] : end] == text.encode()
    unique = {text for text in strings if text}
    merged = {text for text in unique if not any(o != text and o.endswith(text) for o in unique)}
    assert len(table) == 1 + sum(len(text) + 1 for text in (merged if tail_merge else unique))
