"""New symbols and relocations: appended, with every old entry and index where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.elf.additions import Additions, NewRelocation, NewSymbol
from scpatch.elf.layout import lay_out
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from tests import elfwriter as ew
from tests.tools import CROSS, LD, apply, quiet, relocations, sections, symbols


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
    assert [one.name for one in sections(after)] == [one.name for one in sections(before)]
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
    assert Additions(elf).edits() == {}
