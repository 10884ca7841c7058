"""Debug information that is missing, odd or broken: a line or none, never an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.dwarf import names
from scpatch.dwarf.lines import line_of
from scpatch.dwarf.units import LineSection, find_units
from scpatch.elf.reader import ElfFile
from tests import elfwriter as w
from tests.dwarf import support
from tests.dwarf.forge import END, SET_ADDRESS, TEXT, Table, forged, special

PLAIN = Table(program=SET_ADDRESS + special(0, 6) + special(2, 1) + b"\2\2" + END)


def at(elf: ElfFile, *offsets: int) -> list[str | None]:
    lines = line_of(elf, [(TEXT, offset) for offset in offsets])
    return [lines.get((TEXT, offset)) for offset in offsets]


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_a_plain_table(version: int) -> None:
    first, second = ("lib/a.c", "b.c") if version < 5 else ("b.c", "b.c")
    elf = forged(replace(PLAIN, version=version))
    assert at(elf, 0, 4, 8, 12, 16) == [
        f"{first}:7",
        f"{first}:7",
        f"{first}:8",
        f"{first}:8",
        None,
    ]
    program = SET_ADDRESS + b"\4\2" + special(0, 0) + b"\2\2" + END
    if version < 5:
        assert at(forged(replace(PLAIN, version=version, program=program)), 0) == [f"{second}:1"]


def test_a_directory_is_below_the_working_directory() -> None:
    files = b"\1\1\x08\2/comp\0/comp/lib\0" + b"\2\1\x08\2\x0b\2a.c\0\0a.c\0\1"
    assert at(forged(replace(PLAIN, version=5, files=files)), 0) == ["lib/a.c:7"]
    files = files.replace(b"/comp/lib", b"/company")
    assert at(forged(replace(PLAIN, version=5, files=files)), 0) == ["/company/a.c:7"]


def test_functions_that_start_together() -> None:
    program = SET_ADDRESS + special(0, 1) + SET_ADDRESS + special(0, 2) + special(1, 1) + b"\2\1"
    table = Table(program=program + END, addresses=(8, 8))
    assert at(forged(table), 4, 8, 12, 16) == [None, "lib/a.c:4", "lib/a.c:5", None]
    empty = SET_ADDRESS + END
    table = Table(program=empty + program + END + empty, addresses=(8, 8, 8, 8))
    assert at(forged(table), 8, 12) == ["lib/a.c:4", "lib/a.c:5"]


def test_functions_out_of_order() -> None:
    entry = SET_ADDRESS + special(0, 1) + special(1, 1) + b"\2\1"
    table = Table(program=entry + entry + END, addresses=(64, 0))
    assert at(forged(table), 0, 4) == ["lib/a.c:4", "lib/a.c:5"]
    assert at(forged(table), 8, 12, 60, 64) == [None, None, None, "lib/a.c:2"]


def test_opcodes_of_unknown_length_do_not_stop_the_search() -> None:
    odd = SET_ADDRESS + b"\0\3\x80xy" + special(0, 6) + b"\2\2" + END
    table = Table(program=PLAIN.program + odd + PLAIN.program, addresses=(0, 32, 64))
    assert at(forged(table), 0, 32, 64) == ["lib/a.c:7"] * 3


def test_other_standard_opcodes() -> None:
    # A thirteenth one without operands: what was a special opcode is none any more.
    table = replace(
        PLAIN, lengths=bytes([*PLAIN.lengths, 0]), program=SET_ADDRESS + b"\1\2\2" + END
    )
    assert at(forged(table), 0) == ["lib/a.c:1"]


def test_code_without_a_source_line() -> None:
    none = SET_ADDRESS + special(0, -1) + special(1, 5) + b"\2\1" + END
    assert at(forged(replace(PLAIN, program=none)), 0, 4) == [None, "lib/a.c:5"]
    huge = SET_ADDRESS + b"\3" + b"\xff" * 20_000 + b"\1" + special(0, 0) + b"\2\1" + END
    assert at(forged(replace(PLAIN, program=huge)), 0) == [None]


def test_strings_of_dwarf_5() -> None:
    files = b"\1\1\x1f\1" + bytes(4) + b"\1\1\x1f\2" + bytes(8)
    strings = w.Section(name=".debug_line_str", data=b"x\0/comp\0src/a.c\0unfinished")
    start = len(replace(PLAIN, version=5, files=files).build()[0]) - len(PLAIN.program)

    def relocated(*addends: int) -> Table:
        places = zip((start - 16, start - 8, start - 4), addends, strict=True)
        more = tuple(
            w.Relocation(offset=at, type=w.R_PPC64_ADDR32, symbol=".debug_line_str", addend=addend)
            for at, addend in places
        )
        return replace(PLAIN, version=5, files=files[:-4] + bytes(4), more=more)

    # Entries without a directory number lie in directory 0.
    assert at(forged(relocated(2, 0, 8), strings), 0) == ["src/a.c:7"]
    for wrong in (16, 1000, 1 << 31):
        assert at(forged(relocated(2, 0, wrong), strings), 0) == [None]
    assert at(forged(replace(relocated(0, 0, 0), more=())), 0) == [None]


def test_entries_of_no_bytes() -> None:
    """A count of 2**60 entries without bytes would never end."""
    for files in (b"\0\3\0\3", b"\1\1\x08\1x\0" + b"\0\3", b"\1\1\x08\1x\0" + b"\1\1\x19\3"):
        elf = forged(replace(PLAIN, version=5, files=files))
        index = support.debug_line(elf)
        table = elf.relocations(index)
        assert table is not None
        [unit] = find_units(elf.content(index), elf.encoding)
        content = LineSection(elf, index, table).relocated(unit)
        with pytest.raises(ValueError, match="describes entries of no bytes"):
            names.read_program(content, unit, elf.encoding)
        assert at(elf, 0) == [None]


def test_no_more_than_the_limit_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert names.LIMIT == 1 << 18
    monkeypatch.setattr(names, "LIMIT", 1 << 12)
    program = SET_ADDRESS + special(1, 0) * 100 + special(0, 0) * names.LIMIT + special(1, 0)
    elf = forged(Table(program=program + b"\2\1" + END))
    assert at(elf, 40, 404) == ["lib/a.c:1", None]
    for count, expected in ((1000, "d/a.c:7"), (names.LIMIT // 2, None)):
        files = b"d\0" * count + b"\0" + b"a.c\0\1\0\0\0"
        assert at(forged(replace(PLAIN, files=files)), 0) == [expected]


def test_numbers_of_any_length_are_not_decoded() -> None:
    for count, expected in ((1000, "lib/a.c:1"), (1 << 17, None)):
        number = SET_ADDRESS + special(0, 0) + b"\2\1\x0a\5" + b"\x80" * count + b"\0"
        assert at(forged(replace(PLAIN, program=number + END)), 0) == [expected]


@pytest.mark.parametrize("length", [0, 1, 5, 9, 20, 40, 1000, 0xFFFFFFF0, 0xFFFFFFFF])
def test_lengths_that_do_not_fit(length: int) -> None:
    assert at(forged(replace(PLAIN, unit_length=length)), 0) == [None]
    assert at(forged(replace(PLAIN, header_length=length)), 0) == [None]


def test_damage_of_one_unit_leaves_the_units_before_it(tmp_path: Path) -> None:
    good, relocations = PLAIN.build()
    data = good + b"\xf0\xff\xff\xff" + good[4:]
    section = w.Section(name=".debug_line", data=data, relocations=relocations)
    code = w.Section(name=".text", flags=w.SHF_ALLOC | w.SHF_EXECINSTR, data=bytes(64))
    elf = w.Elf(sections=[code, section], symbols=[w.Symbol(type=w.STT_SECTION, section=".text")])
    assert at(ElfFile(memoryview(w.build(elf)), "two.o"), 0) == ["lib/a.c:7"]


def test_without_debug_information(tmp_path: Path) -> None:
    elf = support.read(support.build(tmp_path, "gcc", "-g0"))
    assert line_of(elf, support.words(elf)) == {}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compressed(tmp_path: Path, compiler: str) -> None:
    elf = support.read(support.build(tmp_path, compiler, "-g", "-gz=zlib"))
    assert elf.sections[support.debug_line(elf)].sh_flags & 0x800
    assert line_of(elf, support.words(elf)) == {}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("objects")
    flavours = ["gcc -gdwarf-4", "gcc -gdwarf-5 -Wa,-gdwarf-5", "clang -gdwarf-5"]
    return [support.build(folder, *flavour.split()).read_bytes() for flavour in flavours]


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_damage_anywhere(objects: list[bytes], data: st.DataObject) -> None:
    """Bytes of .debug_line, its relocations and strings and the symbol table changed at random."""
    content = bytearray(data.draw(st.sampled_from(objects)))
    elf = ElfFile(memoryview(bytes(content)), "damaged.o")
    wanted = {".debug_line", ".rela.debug_line", ".debug_line_str", ".symtab"}
    extents = [
        (section.sh_offset, section.sh_size)
        for index, section in enumerate(elf.sections)
        if elf.section_name(index) in wanted
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        start, size = data.draw(st.sampled_from(extents))
        where = start + data.draw(st.integers(0, size - 1))
        content[where] = data.draw(st.integers(0, 255))
    lines = line_of(ElfFile(memoryview(bytes(content)), "damaged.o"), support.words(elf))
    assert lines.keys() <= set(support.words(elf))
    assert all(line.rpartition(":")[2].isdecimal() for line in lines.values())
