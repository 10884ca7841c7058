"""New symbols and relocations: appended, with every old entry and index where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.elf.additions import Additions, NewRelocation, NewSymbol
from scpatch.elf.layout import Edits, lay_out
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from tests import elfwriter as ew
from tests.tools import CROSS, FIXTURES, LD, apply, quiet, relocations, sections, symbols


def described(**changes: object) -> ew.Elf:
    call = ew.Relocation(offset=0, type=ew.R_PPC64_REL24, symbol="__SCT__x")
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        data=ew.words(ew.BL, ew.NOP),
        addralign=4,
        relocations=[call],
    )
    plain = ew.Elf(
        sections=[text, ew.Section(name=".data", data=bytes(8), flags=3, addralign=8)],
        symbols=[
            ew.Symbol(name="local", section=".data"),
            ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL),
        ],
    )
    from dataclasses import replace

    return replace(plain, **changes)  # type: ignore[arg-type]


def grown(path: Path, description: ew.Elf, *, name: str = "added", unique: bool = False) -> None:
    """Adds a symbol and a relocation by it to the description's .text."""
    data = ew.build(description)
    elf = ElfFile(memoryview(data), "x")
    text = next(iter(elf.code_sections()))
    additions = Additions(elf)
    additions.append(text, ew.words(ew.B))
    symbol = additions.add_symbol(NewSymbol(name, text, 8, 4, unique=unique))
    additions.add_relocation(NewRelocation(text, 8, symbol, ew.R_PPC64_REL24, -4))
    additions.retarget(text, 0, symbol, ew.R_PPC64_REL24)
    path.write_bytes(apply(data, lay_out(elf, additions.edits())))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_appended(tmp_path: Path, shared: bool, extended: bool) -> None:
    description = described(shared_strtab=shared, extended=extended)
    before, after = tmp_path / "before.o", tmp_path / "after.o"
    before.write_bytes(ew.build(description))
    grown(after, description)
    assert symbols(after)[:-1] == symbols(before)
    new = symbols(after)[-1]
    assert (new.name, new.value, new.size, new.type) == ("added", 8, 4, "FUNC")
    assert (new.bind, new.visibility, new.section) == ("WEAK", "HIDDEN", "1")
    old, added = relocations(after)
    assert (old.offset, old.symbol, old.addend, old.type) == (0, new.index, 0, "REL24")
    assert (added.offset, added.symbol, added.addend) == (8, new.index, -4)
    assert [entry.name for entry in sections(after)] == [entry.name for entry in sections(before)]
    quiet(LD, "-r", "-o", tmp_path / "linked.o", after)
    quiet(CROSS + "objcopy", after, tmp_path / "copied.o")


def test_a_unique_symbol_is_global(tmp_path: Path) -> None:
    grown(tmp_path / "x.o", described(), unique=True)
    assert symbols(tmp_path / "x.o")[-1].bind == "GLOBAL"


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    grown(tmp_path / "x.o", described(), name=name)
    assert b"\0\xff\xfe\0" in (tmp_path / "x.o").read_bytes()


def test_past_65279_sections(tmp_path: Path) -> None:
    fill = [ew.Section(name=".s") for _ in range(65290)]
    plain = described()
    description = described(sections=[*fill, *plain.sections])
    grown(tmp_path / "x.o", description)
    new = symbols(tmp_path / "x.o")[-1]
    assert (new.name, new.section) == ("added", "65291")


def test_a_string_table_without_an_end() -> None:
    data = ew.build(described(section_headers={".strtab": {"sh_size": 5}}))
    elf = ElfFile(memoryview(data), "x")
    with pytest.raises(ScpatchError, match="does not end with NUL"):
        Additions(elf).add_symbol(NewSymbol("n", 1, 0, 4, unique=False))


def test_nothing_added() -> None:
    elf = ElfFile(memoryview(ew.build(described())), "x")
    additions = Additions(elf)
    assert not additions
    assert additions.edits() == Edits()


def with_section(data: bytes) -> bytes:
    elf = ElfFile(memoryview(data), "x")
    additions = Additions(elf)
    kind, flags = ew.SHT_PROGBITS, ew.SHF_MERGE | ew.SHF_STRINGS
    index = additions.add_section(".new", kind, flags, b"text\0", align=1, entry_size=1)
    assert index == len(elf.sections)
    additions.add_section(".newer", kind, 0, bytes(3), align=16)
    return apply(data, lay_out(elf, additions.edits()))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("count", [0, 65275, 65290], ids=["few", "becoming many", "many"])
def test_new_sections(tmp_path: Path, shared: bool, count: int) -> None:
    """Also where e_shnum does not hold their number any more, and where it never did."""
    fill = [ew.Section(name=".s") for _ in range(count)]
    description = described(shared_strtab=shared)
    description = described(shared_strtab=shared, sections=[*fill, *description.sections])
    before, after = tmp_path / "before.o", tmp_path / "after.o"
    before.write_bytes(ew.build(description))
    after.write_bytes(with_section(before.read_bytes()))
    assert symbols(after) == symbols(before)
    *old, new, newer = sections(after)
    assert [entry.name for entry in old] == [entry.name for entry in sections(before)]
    assert (new.name, new.type, new.flags, new.entsize) == (".new", "PROGBITS", "MS", 1)
    assert after.read_bytes()[new.offset :][: new.size] == b"text\0"
    assert (newer.name, newer.size, newer.align, newer.offset % 16) == (".newer", 3, 16, 0)
    quiet(LD, "-r", "-o", tmp_path / "linked.o", after)


def test_section_names_that_are_none() -> None:
    data = bytearray(ew.build(described()))
    data[62:64] = (1).to_bytes(2, "little")  # e_shstrndx: .text
    with pytest.raises(ScpatchError, match="e_shstrndx names no string table"):
        with_section(bytes(data))


def test_a_big_endian_object(tmp_path: Path) -> None:
    """The container is written in the byte order of the file."""
    before, after = FIXTURES / "ppc64-be.o", tmp_path / "after.o"
    data = before.read_bytes()
    elf = ElfFile(memoryview(data), "x")
    (text,) = elf.sections_named(".text")
    size = elf.sections[text].sh_size
    additions = Additions(elf)
    additions.append(text, bytes(4))
    symbol = additions.add_symbol(NewSymbol("added", text, size, 4, unique=False))
    additions.add_relocation(NewRelocation(text, size, symbol, ew.R_PPC64_REL24, -4))
    new = additions.add_section(".new", 1, 2, b"content", align=8)
    after.write_bytes(apply(data, lay_out(elf, additions.edits())))
    assert symbols(after)[:-1] == symbols(before)
    assert (symbols(after)[-1].name, symbols(after)[-1].value) == ("added", size)
    (added,) = [entry for entry in relocations(after) if entry.offset == size]
    assert (added.table, added.symbol, added.addend) == (".rela.text", symbol, -4)
    assert [entry.name for entry in sections(after)][new:] == [".new"]
    quiet(CROSS + "objcopy", after, tmp_path / "copied.o")
