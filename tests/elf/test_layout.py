"""Where sections go when some of them grow: properties of the layout, and other tools' verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.elf.layout import Edits, SectionEdit, lay_out
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from tests import elfwriter as ew
from tests.tools import CROSS, FIXTURES, LD, apply, in_both, quiet, sections

ALIGNMENTS = (0, 1, 2, 4, 8, 16, 64, 4096)
KINDS = (ew.SHT_PROGBITS, ew.SHT_PROGBITS, ew.SHT_PROGBITS, ew.SHT_NOBITS, ew.SHT_NOTE)


@st.composite
def objects(draw: st.DrawFn) -> ew.Elf:
    contents = []
    for index in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(KINDS))
        size = draw(st.sampled_from((0, 1, 3, 4, 8, 33, 100)))
        nothing = kind == ew.SHT_NOBITS
        contents.append(
            ew.Section(
                name=f".s{index}",
                type=kind,
                flags=ew.SHF_ALLOC,
                data=b"" if nothing else draw(st.binary(min_size=size, max_size=size)),
                size=size if nothing else 0,
                addralign=draw(st.sampled_from(ALIGNMENTS)),
            )
        )
    names = [ew.Symbol(name="x" * draw(st.integers(1, 9)), bind=ew.STB_GLOBAL)]
    trailer = draw(st.sampled_from((b"", b"", b"trailing")))
    return ew.Elf(sections=contents, symbols=names, trailer=trailer)


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, dict[int, SectionEdit]]:
    data = ew.build(draw(objects()))
    elf = ElfFile(memoryview(data), "x")
    edits = {}
    for index, section in enumerate(elf.sections):
        if section.file_size and draw(st.booleans()):
            patches: list[tuple[int, bytes]] = []
            if draw(st.booleans()):
                patches.append((draw(st.integers(0, section.sh_size - 1)), b"P"))
            tail = draw(st.binary(max_size=40))
            edits[index] = SectionEdit(tuple(patches), tail)
    return data, edits


def expected(elf: ElfFile, index: int, edits: Mapping[int, SectionEdit]) -> bytes:
    content = bytearray(elf.content(index))
    edit = edits.get(index, SectionEdit())
    for offset, new in edit.patches:
        content[offset : offset + len(new)] = new
    return bytes(content) + edit.tail


@settings(max_examples=300, deadline=None)
@given(edited())
def test_every_section_has_what_it_should(case: tuple[bytes, dict[int, SectionEdit]]) -> None:
    data, edits = case
    elf = ElfFile(memoryview(data), "x")
    new = ElfFile(memoryview(apply(data, lay_out(elf, Edits(edits)))), "x")
    assert new.header._replace(e_shoff=0) == elf.header._replace(e_shoff=0)
    assert len(new.sections) == len(elf.sections)
    for index, (before, after) in enumerate(zip(elf.sections, new.sections, strict=True)):
        assert bytes(new.content(index)) == expected(elf, index, edits)
        tail = len(edits[index].tail) if index in edits else 0
        assert after == before._replace(sh_offset=after.sh_offset, sh_size=before.sh_size + tail)


@settings(max_examples=300, deadline=None)
@given(edited())
def test_order_alignment_and_growth(case: tuple[bytes, dict[int, SectionEdit]]) -> None:
    data, edits = case
    elf = ElfFile(memoryview(data), "x")
    layout = lay_out(elf, Edits(edits))
    new = ElfFile(memoryview(apply(data, layout)), "x")
    held = [index for index, entry in enumerate(elf.sections) if entry.file_size]
    held.sort(key=lambda index: elf.sections[index].sh_offset)
    end = 64
    for index in held:
        section = new.sections[index]
        assert section.sh_offset >= end
        assert section.sh_offset % max(section.sh_addralign, 1) == (
            elf.sections[index].sh_offset % max(section.sh_addralign, 1)
        )
        end = section.sh_offset + section.file_size
    for before, after in zip(elf.sections, new.sections, strict=True):
        assert (after.sh_offset - before.sh_offset) % max(before.sh_addralign, 1) == 0
    tails = sum(len(edit.tail) for edit in edits.values())
    aligned = sum(max(entry.sh_addralign, 8) for entry in elf.sections)
    assert len(data) <= layout.size + aligned
    assert layout.size <= len(data) + tails + aligned
    if data.endswith(b"trailing"):
        assert apply(data, layout).endswith(b"trailing")


@settings(max_examples=60, deadline=None)
@given(objects())
def test_no_edit_no_change(description: ew.Elf) -> None:
    data = ew.build(description)
    elf = ElfFile(memoryview(data), "x")
    assert apply(data, lay_out(elf, Edits())) == data
    assert lay_out(elf, Edits()).writes == ()


def test_an_empty_section_inside_another_one() -> None:
    """As a .bss that asks for more alignment than what follows it in the file."""
    description = ew.Elf(
        sections=[
            ew.Section(name=".a", data=b"a"),
            ew.Section(name=".bss", type=ew.SHT_NOBITS, size=8, addralign=16),
        ],
        symbols=[ew.Symbol(name="x", bind=ew.STB_GLOBAL)],
    )
    data = ew.build(description)
    elf = ElfFile(memoryview(data), "x")
    (symtab,) = elf.sections_named(".symtab")
    assert elf.sections[symtab].sh_offset < elf.sections[2].sh_offset
    assert apply(data, lay_out(elf, Edits())) == data


@pytest.mark.parametrize("name", in_both("sites.o", "calls-clang-dwarf.o", "merged.o", "module.ko"))
def test_no_edit_of_real_objects(name: str) -> None:
    data = (FIXTURES / name).read_bytes()
    elf = ElfFile(memoryview(data), name)
    assert apply(data, lay_out(elf, Edits())) == data
    assert len(lay_out(elf, Edits()).copies) == 1


@settings(max_examples=25, deadline=None)
@given(edited())
def test_other_tools_take_it(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[bytes, dict[int, SectionEdit]]
) -> None:
    data, edits = case
    elf = ElfFile(memoryview(data), "x")
    strings = {entry.sh_link for entry in elf.sections} | {elf.header.e_shstrndx}
    tables = {index for index, entry in enumerate(elf.sections) if entry.sh_type == ew.SHT_SYMTAB}
    # Growing a table by any bytes is no valid file; its neighbours' growth moves it all the same.
    others = {index: edit for index, edit in edits.items() if index not in strings | tables}
    path = tmp_path_factory.mktemp("layout") / "x.o"
    path.write_bytes(apply(data, lay_out(elf, Edits(others))))
    assert len(sections(path)) == len(elf.sections)
    quiet(CROSS + "objcopy", path, path.with_name("copy.o"))
    quiet(LD, "-r", "-o", path.with_name("linked.o"), path)


@pytest.mark.parametrize("tail", [1, 7, 8, 100, 5000])
@pytest.mark.parametrize("name", in_both("sites.o", "calls-clang-dwarf.o", "merged.o"))
def test_real_objects_against_readelf(tmp_path: Path, name: str, tail: int) -> None:
    data = (FIXTURES / name).read_bytes()
    elf = ElfFile(memoryview(data), name)
    (text,) = elf.sections_named(".text")
    path = tmp_path / "x.o"
    path.write_bytes(apply(data, lay_out(elf, Edits({text: SectionEdit(tail=b"\1" * tail)}))))
    before, after = sections(FIXTURES / name), sections(path)
    for old, new in zip(before, after, strict=True):
        assert new.size == old.size + (tail if new.index == text else 0)
        assert new.offset % max(new.align, 1) == 0
        assert new.offset >= old.offset or new.type == "NULL"
    quiet(CROSS + "objcopy", path, tmp_path / "copy.o")


def test_overlapping_sections_are_refused() -> None:
    description = ew.Elf(
        sections=[ew.Section(name=".a", data=bytes(16)), ew.Section(name=".b", data=bytes(16))],
        section_headers={".b": {"sh_offset": 72}},
    )
    elf = ElfFile(memoryview(ew.build(description)), "x")
    with pytest.raises(ScpatchError, match="overlap"):
        lay_out(elf, Edits({1: SectionEdit(tail=b"1")}))


def test_what_lies_between_sections_is_kept() -> None:
    """Bytes that no header names, be they a note of some tool or an old table."""
    whole = ew.build(ew.Elf(sections=[ew.Section(name=".a", data=b"a" * 16)]))
    elf = ElfFile(memoryview(whole), "x")
    extra = b"between" + bytes(41)
    cut = elf.sections[1].sh_offset + 16
    moved = bytearray(whole[:cut] + extra + whole[cut:])
    moved[40:48] = (elf.header.e_shoff + len(extra)).to_bytes(8, "little")
    for index in range(2, len(elf.sections)):
        at = elf.header.e_shoff + len(extra) + 64 * index + 24
        moved[at : at + 8] = (elf.sections[index].sh_offset + len(extra)).to_bytes(8, "little")
    new = ElfFile(memoryview(bytes(moved)), "x")
    result = apply(bytes(moved), lay_out(new, Edits({1: SectionEdit(tail=b"tail")})))
    assert b"a" * 16 + b"tail" in result
    assert b"between" in result
    assert len(result) <= len(moved) + 4 + 8


@pytest.mark.parametrize("align", [3, 1 << 20, 1 << 40, 1 << 63, (1 << 64) - 1])
def test_a_forged_alignment_makes_no_giant(align: int) -> None:
    description = ew.Elf(
        sections=[ew.Section(name=".a", data=b"a"), ew.Section(name=".b", data=b"b")],
        section_headers={".b": {"sh_addralign": align}},
    )
    data = ew.build(description)
    elf = ElfFile(memoryview(data), "x")
    assert lay_out(elf, Edits({1: SectionEdit(tail=b"1")})).size < len(data) + 64


def test_a_big_section_keeps_its_place_in_the_blocks() -> None:
    """And small ones do not, so that no small file grows by blocks."""
    names = {".a": 100, ".small": 5000, ".big": 1 << 20, ".next": 3, ".bigger": 1 << 21}
    description = ew.Elf(
        sections=[ew.Section(name=name, data=b"x" * size) for name, size in names.items()]
    )
    data = ew.build(description)
    elf = ElfFile(memoryview(data), "x")
    layout = lay_out(elf, Edits({1: SectionEdit(tail=b"1234567")}))
    new = ElfFile(memoryview(apply(data, layout)), "x")
    moved = [
        after.sh_offset - before.sh_offset
        for before, after in zip(elf.sections[1:6], new.sections[1:6], strict=True)
    ]
    assert moved[0] == 0
    assert moved[1] == 7
    assert moved[2:] == [4096, 4096, 4096]
    assert len(layout.copies) == 3
    assert layout.size <= len(data) + 4096 + 8


def test_an_empty_section_keeps_its_alignment() -> None:
    """As clang's .bss, which comes before .comment and before the end of the file."""
    description = ew.Elf(
        sections=[
            ew.Section(name=".a", data=bytes(16)),
            ew.Section(name=".bss", type=ew.SHT_NOBITS, size=8, addralign=64),
            ew.Section(name=".b", data=bytes(100)),
        ],
    )
    data = ew.build(description)
    elf = ElfFile(memoryview(data), "x")
    for tail in (1, 24, 63, 64, 65):
        layout = lay_out(elf, Edits({1: SectionEdit(tail=bytes(tail))}))
        new = ElfFile(memoryview(apply(data, layout)), "x")
        assert elf.sections[2].sh_offset % 64 == new.sections[2].sh_offset % 64 == 0
        assert elf.sections[2].sh_offset <= new.sections[2].sh_offset <= layout.size


def test_an_empty_section_that_grows_begins_after_what_grew_before_it() -> None:
    description = ew.Elf(
        sections=[ew.Section(name=".a", data=bytes(16)), ew.Section(name=".b", addralign=8)]
    )
    data = ew.build(description)
    elf = ElfFile(memoryview(data), "x")
    edits = Edits({1: SectionEdit(tail=b"a" * 12), 2: SectionEdit(tail=b"b" * 8)})
    new = ElfFile(memoryview(apply(data, lay_out(elf, edits))), "x")
    assert new.content(1) == bytes(16) + b"a" * 12
    assert new.content(2) == b"b" * 8
    assert new.sections[2].sh_offset % 8 == 0


def test_an_empty_section_anywhere() -> None:
    description = ew.Elf(
        sections=[ew.Section(name=".a", data=b"a"), ew.Section(name=".b")],
        section_headers={".b": {"sh_offset": (1 << 64) - 1}},
    )
    data = ew.build(description)
    elf = ElfFile(memoryview(data), "x")
    new = ElfFile(
        memoryview(apply(data, lay_out(elf, Edits({1: SectionEdit(tail=b"12345678")})))), "x"
    )
    assert new.sections[2] == elf.sections[2]


def test_an_empty_section_behind_the_end_that_is_to_grow() -> None:
    """Its place means nothing while it is empty, but the file would become as large as that."""
    data = bytearray(ew.build(ew.Elf(sections=[ew.Section(name=".comment", data=b"")])))
    elf = ElfFile(memoryview(bytes(data)), "x.o")
    (index,) = elf.sections_named(".comment")
    at = elf.header.e_shoff + 64 * index + 24
    data[at : at + 8] = (1 << 45).to_bytes(8, "little")
    elf = ElfFile(memoryview(bytes(data)), "x.o")
    with pytest.raises(ScpatchError, match="starts at 0x200000000000, after the end"):
        lay_out(elf, Edits({index: SectionEdit((), b"text\0")}))
