"""What the comparison of two objects finds, held against binutils."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.differ.model import Mark, ObjectDiff, SymbolDiff
from scpatch.errors import ScpatchError
from tests import elfwriter
from tests.elfwriter import BL, LD_R2, NOP, R_PPC64_ADDR64, R_PPC64_REL24, Elf, words
from tests.report.support import (
    FIXTURES,
    PREFIX,
    by_name,
    changed_rows,
    compare,
    marks,
    objdump,
    opened,
    rewritten,
    rows,
    run,
)
from tests.tools import in_both

REWRITABLE = in_both(
    "calls-gcc.o",
    "calls-clang.o",
    "calls-gcc-dwarf.o",
    "calls-sections.o",
    "merged.o",
    "module.ko",
    "refused.o",
    "sites.o",
    "unmarked.o",
)


@pytest.mark.parametrize("fixture", REWRITABLE)
@pytest.mark.parametrize("thunks", [False, True])
def test_changed_rows_are_what_objdump_tells_apart(
    fixture: str, thunks: bool, tmp_path: Path
) -> None:
    before, after = FIXTURES / fixture, rewritten(fixture, tmp_path, thunks=thunks)
    old, new = objdump(before), objdump(after)
    wanted = {
        place
        for place in old.keys() | new.keys()
        if place not in old
        or place not in new
        or (old[place].word, old[place].relocations) != (new[place].word, new[place].relocations)
    }
    compared = {
        (inside.section_name, instruction.offset)
        for function in compare(before, after).functions
        for row in rows(function)
        if row.mark not in (Mark.CONTEXT, Mark.CHECKED, Mark.REFUSED)
        for instruction, inside in ((row.after, function.after), (row.before, function.before))
        if instruction is not None and inside is not None and instruction.size == 4
    }
    # objdump does not list the zero bytes that align the stubs.
    assert wanted - compared == set()
    assert all(place not in new for place in compared - wanted)
    assert wanted or fixture.endswith("module.ko")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("calls-gcc.o", "calls-clang.o"),
        ("calls-clang.o", "calls-gcc.o"),
        ("calls-gcc.o", "sites.o"),
        ("merged.o", "calls-gcc.o"),
        ("big/merged.o", "big/calls-clang.o"),
    ],
)
def test_both_versions_can_be_read_off_a_whole_diff(before: str, after: str) -> None:
    """Unrelated versions: with enough context the left side is all of each changed function of
    the first object, the right side all of the second, in order."""
    listings = objdump(FIXTURES / before), objdump(FIXTURES / after)
    diff = compare(FIXTURES / before, FIXTURES / after, context=1 << 20)
    assert diff.functions
    for function in diff.functions:
        function_rows = rows(function)
        for listing, inside, side in (
            (listings[0], function.before, [row.before for row in function_rows if row.before]),
            (listings[1], function.after, [row.after for row in function_rows if row.after]),
        ):
            if inside is None:
                assert side == []
                continue
            assert [instruction.offset for instruction in side] == list(
                range(inside.start, inside.end, 4)
            )
            for instruction in side:
                if listed := listing.get((inside.section_name, instruction.offset)):
                    assert listed.word == instruction.word
        for row in function_rows:
            same = (
                row.before is not None
                and row.after is not None
                and (row.before.word, row.before.relocations)
                == (row.after.word, row.after.relocations)
            )
            assert same == (row.mark in (Mark.CONTEXT, Mark.CHECKED, Mark.REFUSED))
        counted = [row.mark for row in function_rows]
        assert counted.count(Mark.ADDED) == function.counts.added
        assert counted.count(Mark.REMOVED) == function.counts.removed
        assert counted.count(Mark.WORD) + counted.count(Mark.RELOCATION) == function.counts.changed


def test_marks_of_a_rewrite(tmp_path: Path) -> None:
    diff = compare(FIXTURES / "sites.o", rewritten("sites.o", tmp_path), context=1)
    functions = by_name(diff)
    assert marks(functions["nop_ori"]) == " ~* "
    assert marks(functions["saved_before"]) == "=* "
    assert marks(functions["saved_between"]) == " ~* =* "
    assert marks(functions["in_init_text"]) == " ~*=*=* "
    assert marks(functions["falls_through"]) == " ~*+"
    stubs = {name: function for name, function in functions.items() if name.startswith("r2save.")}
    assert len(stubs) == 7
    for function in stubs.values():
        assert (function.before, marks(function)) == (None, "++")
        texts = [row.after.text for row in rows(function) if row.after]
        assert texts[0] == "std r2,24(r1)"
        assert texts[1].startswith("b __SCT__") or texts[1].startswith("b .")
        assert function.note.startswith("stub for ")
    assert sum(int(function.note.split()[2]) for function in stubs.values()) == 14
    assert (diff.strategy, diff.kind) == ("callsite", "ET_REL ppc64le ELFv2")
    assert not diff.same
    assert not diff.only_layout
    assert "restored_already" not in functions


def test_refused_sites_are_shown_with_their_codes(tmp_path: Path) -> None:
    diff = compare(FIXTURES / "refused.o", rewritten("refused.o", tmp_path))
    functions = by_name(diff)
    assert {site.code for site in diff.refused} == {
        *("SCP201", "SCP202", "SCP203", "SCP205", "SCP206", "SCP207", "SCP209")
    }
    refused = [row for row in rows(functions["sibling_call"]) if row.mark is Mark.REFUSED]
    assert [row.note for row in refused] == [
        "SCP203 sibling call (b) to __SCT__name: left as it is"
    ]
    assert refused[0].after is not None
    assert refused[0].after.text == "b __SCT__name"
    assert not functions["sibling_call"].counts.functions
    assert functions["accepted"].counts.functions


def test_functions_have_their_source_lines(tmp_path: Path) -> None:
    after = rewritten("calls-gcc-dwarf.o", tmp_path)
    diff = compare(FIXTURES / "calls-gcc-dwarf.o", after)
    function = by_name(diff)["returns_the_call"]
    assert function.after is not None
    told = run(
        *(
            PREFIX + "addr2line",
            "-e",
            after,
            "-j",
            function.after.section_name,
            hex(function.after.start),
        )
    )
    assert function.line
    assert told.strip().endswith(function.line)


def test_the_same_file_is_the_same() -> None:
    diff = compare(FIXTURES / "sites.o", FIXTURES / "sites.o")
    assert diff.same
    assert not diff.functions
    assert not diff.only_layout


def changed(fixture: str, folder: Path, *options: str) -> ObjectDiff:
    """A prebuilt object against what objcopy makes of it."""
    after = folder / "after.o"
    run(PREFIX + "objcopy", *options, FIXTURES / fixture, after)
    return compare(FIXTURES / fixture, after)


def test_stripped_of_debug_information(tmp_path: Path) -> None:
    """All symbols are renumbered, and still no instruction differs."""
    diff = changed("calls-gcc-dwarf.o", tmp_path, "--strip-debug")
    assert diff.functions == ()
    removed = {section.name for section in diff.sections if section.after is None}
    assert {".debug_info", ".rela.debug_info", ".debug_line"} <= removed
    assert not any(section.name in (".rela.text", ".text", ".data") for section in diff.sections)
    assert {symbol.mark for symbol in diff.symbols} == {Mark.REMOVED}


def symbol_names(path: Path) -> list[str]:
    listed = run(PREFIX + "readelf", "-sW", path).splitlines()
    return sorted(
        fields[7].partition("@")[0]
        for line in listed
        if len(fields := line.replace("[<localentry>: 8]", "").split()) == 8
        and fields[0] != "Num:"
        and fields[3] != "SECTION"
    )


def test_symbols_that_strip_removes(tmp_path: Path) -> None:
    diff = changed("calls-gcc.o", tmp_path, "--strip-unneeded")
    gone = symbol_names(FIXTURES / "calls-gcc.o")
    for name in symbol_names(tmp_path / "after.o"):
        gone.remove(name)
    assert gone
    assert (
        sorted(symbol.name for symbol in diff.symbols if symbol.what.split()[1] != "SECTION")
        == gone
    )
    assert diff.functions == ()


def test_a_renamed_callee_changes_the_relocations_only(tmp_path: Path) -> None:
    diff = changed("calls-gcc.o", tmp_path, "--redefine-sym", "__SCT__elsewhere=other")
    changes = changed_rows(diff)
    assert changes
    assert {row.mark for row in changes} == {Mark.RELOCATION}
    assert {row.after.text for row in changes if row.after} == {"bl other"}
    marks_of = {symbol.name: symbol.mark for symbol in diff.symbols}
    assert marks_of == {"__SCT__elsewhere": Mark.REMOVED, "other": Mark.ADDED}


def test_a_renamed_section_moves_its_functions(tmp_path: Path) -> None:
    diff = changed("calls-gcc.o", tmp_path, "--rename-section", ".init.text=.exit.text")
    moved = {function.range.name: function for function in diff.functions}
    assert moved["call_in_init_text"].note == "moved from .init.text"
    counts = moved["call_in_init_text"].counts
    assert (counts.changed, counts.added) == (0, 0)
    pairs = {
        (section.name, section.before is None)
        for section in diff.sections
        if section.before != section.after
    }
    assert {(".init.text", False), (".exit.text", True)} <= pairs


def test_flags_alignment_and_new_sections(tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.write_bytes(b"12345")
    diff = changed(
        *("sites.o", tmp_path, "--add-section", f".extra={extra}"),
        *("--set-section-alignment", ".init.text=64"),
        *("--set-section-flags", ".noinstr.text=alloc,code,readonly,debug"),
    )
    sections = {section.name: section for section in diff.sections}
    assert (sections[".extra"].size_before, sections[".extra"].size_after) == (None, 5)
    assert [(f.name, f.after) for f in sections[".init.text"].fields] == [("sh_addralign", "0x40")]


def test_binding_of_a_symbol(tmp_path: Path) -> None:
    diff = changed("calls-gcc.o", tmp_path, "--weaken-symbol", "returns_the_call")
    symbol = next(symbol for symbol in diff.symbols if symbol.name == "returns_the_call")
    assert symbol.mark is Mark.WORD
    assert [(f.name, f.before, f.after) for f in symbol.fields] == [("binding", "GLOBAL", "WEAK")]


def built(folder: Path, name: str, elf: Elf) -> Path:
    path = folder / name
    path.write_bytes(elfwriter.build(elf))
    return path


def code(*values: int, name: str = ".text", **more: object) -> elfwriter.Section:
    relocations = more.get("relocations", [])
    assert isinstance(relocations, list)
    return elfwriter.Section(
        name=name, flags=6, addralign=4, data=words(*values), relocations=relocations
    )


def function(name: str, value: int, size: int, section: str = ".text") -> elfwriter.Symbol:
    return elfwriter.Symbol(name=name, value=value, size=size, type=2, bind=1, section=section)


def reference(
    symbol: str, offset: int = 0, kind: int = R_PPC64_REL24, addend: int = 0
) -> elfwriter.Relocation:
    return elfwriter.Relocation(offset=offset, type=kind, symbol=symbol, addend=addend)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (reference("g"), reference("h")),
        (reference("g"), reference("g", addend=4)),
        (reference("g"), reference("g", kind=116)),
    ],
)
def test_rows_are_equal_only_if_symbol_addend_and_type_agree(
    before: elfwriter.Relocation, after: elfwriter.Relocation, tmp_path: Path
) -> None:
    symbols = [function("f", 0, 8), elfwriter.Symbol(name="g", bind=1)]
    symbols.append(elfwriter.Symbol(name="h", bind=1))
    paths = [
        built(tmp_path, name, Elf(sections=[code(BL, NOP, relocations=[ref])], symbols=symbols))
        for name, ref in (("a.o", before), ("b.o", after))
    ]
    assert [row.mark for row in changed_rows(compare(paths[0], paths[1]))] == [Mark.RELOCATION]
    assert not compare(paths[0], paths[0]).functions


def test_symbol_numbers_do_not_matter(tmp_path: Path) -> None:
    ref = [reference("h")]
    several = [elfwriter.Symbol(name=name, bind=1) for name in ("g", "h")]
    before = Elf(sections=[code(BL, NOP, relocations=ref)], symbols=[function("f", 0, 8), *several])
    after = Elf(
        sections=[code(BL, NOP, relocations=ref)], symbols=[*several[::-1], function("f", 0, 8)]
    )
    diff = compare(built(tmp_path, "a.o", before), built(tmp_path, "b.o", after))
    assert diff.functions == ()
    assert diff.symbols == ()
    assert not diff.same


def data(*relocations: elfwriter.Relocation, content: bytes = bytes(32)) -> elfwriter.Section:
    return elfwriter.Section(
        name=".data", flags=3, addralign=8, data=content, relocations=list(relocations)
    )


def test_relocations_and_bytes_of_data(tmp_path: Path) -> None:
    symbols = [elfwriter.Symbol(name=name, bind=1) for name in ("g", "h")]
    before = data(reference("g", 0, R_PPC64_ADDR64), reference("g", 8, R_PPC64_ADDR64))
    after = data(
        *(reference("g", 8, R_PPC64_ADDR64), reference("h", 0, R_PPC64_ADDR64)),
        content=bytes(24) + b"\1\0\2\0\0\0\0\3",
    )
    diff = compare(
        built(tmp_path, "a.o", Elf(sections=[before], symbols=symbols)),
        built(tmp_path, "b.o", Elf(sections=[after], symbols=symbols)),
    )
    sections = {section.name: section for section in diff.sections}
    assert sections[".data"].changed_bytes == 3
    section = sections[".rela.data"]
    assert [(relocation.at, relocation.symbol) for relocation in section.relocations_removed] == [
        (0, "g")
    ]
    assert [(relocation.at, relocation.symbol) for relocation in section.relocations_added] == [
        (0, "h")
    ]


def test_sections_of_one_name_go_together_by_size(tmp_path: Path) -> None:
    """COMDAT copies have one name; removing the first must not shift the others."""

    def three(sizes: list[int]) -> Elf:
        return Elf(sections=[code(*[NOP] * size, name=".text.x") for size in sizes])

    diff = compare(built(tmp_path, "a.o", three([3, 5, 7])), built(tmp_path, "b.o", three([5, 7])))
    text_sections = [section for section in diff.sections if section.name == ".text.x"]
    assert [(section.size_before, section.size_after) for section in text_sections] == [(12, None)]


def test_header_fields(tmp_path: Path) -> None:
    before = built(tmp_path, "a.o", Elf(flags=2, sections=[code(NOP)]))
    after = built(tmp_path, "b.o", Elf(flags=0, sections=[code(NOP)]))
    diff = compare(before, after)
    assert [(f.name, f.before, f.after) for f in diff.header] == [("e_flags", "0x2", "0x0")]


def test_only_the_layout_differs(tmp_path: Path) -> None:
    before = built(tmp_path, "a.o", Elf(sections=[code(NOP)]))
    after = tmp_path / "b.o"
    after.write_bytes(before.read_bytes() + bytes(16))
    diff = compare(before, after)
    assert (diff.same, diff.only_layout) == (False, True)


def test_code_without_symbols_or_whole_words(tmp_path: Path) -> None:
    before = built(tmp_path, "a.o", Elf(sections=[code(NOP, NOP)]))
    section = code(NOP, LD_R2)
    odd = elfwriter.Section(name=".text", flags=6, data=words(NOP, LD_R2) + b"\1\2\3")
    assert section.relocations == []
    after = built(tmp_path, "b.o", Elf(sections=[odd]))
    changes = changed_rows(compare(before, after))
    assert [(str(row.mark), row.after.text) for row in changes if row.after] == [
        ("*", "ld r2,24(r1)"),
        ("+", ".byte 0x01,0x02,0x03"),
    ]


def test_names_are_shown_as_they_are_and_cannot_be_confused(tmp_path: Path) -> None:
    """Two static functions of one name are compared in order."""

    def twice(first: int, second: int) -> Elf:
        symbols = [
            elfwriter.Symbol(name="f", value=at, size=8, type=2, section=".text") for at in (0, 8)
        ]
        return Elf(sections=[code(NOP, first, NOP, second)], symbols=symbols)

    diff = compare(
        built(tmp_path, "a.o", twice(NOP, NOP)), built(tmp_path, "b.o", twice(NOP, LD_R2))
    )
    assert [(function.range.name, function.range.start) for function in diff.functions] == [
        ("f", 8)
    ]


def test_symbols_of_one_name(tmp_path: Path) -> None:
    def made(*values: int) -> Elf:
        symbols = [
            elfwriter.Symbol(name="x", value=value, size=4, type=1, section=".data")
            for value in values
        ]
        return Elf(sections=[data()], symbols=symbols)

    diff = compare(
        built(tmp_path, "a.o", made(0, 4, 8)), built(tmp_path, "b.o", made(8, 0, 12, 16))
    )
    assert [(symbol.mark, symbol.what) for symbol in diff.symbols] == [
        (Mark.WORD, ".data+0xc OBJECT LOCAL size 4"),
        (Mark.ADDED, ".data+0x10 OBJECT LOCAL size 4"),
    ]
    assert isinstance(diff.symbols[0], SymbolDiff)


def test_a_damaged_object_is_an_error(tmp_path: Path) -> None:
    whole = (FIXTURES / "sites.o").read_bytes()
    torn = tmp_path / "torn.o"
    torn.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ScpatchError):
        compare(FIXTURES / "sites.o", torn)


@pytest.mark.parametrize("context", [0, 1, 3, 1000])
def test_context(context: int, tmp_path: Path) -> None:
    diff = compare(FIXTURES / "calls-gcc.o", rewritten("calls-gcc.o", tmp_path), context)
    function = by_name(diff)["returns_the_call"]
    total = (function.range.end - function.range.start) // 4
    assert len(rows(function)) == min(2 + 2 * context, total)
    loop = by_name(diff)["in_a_loop"]
    assert (len(list(loop.hunks())) == 1) == (context == 1000)


def test_an_open_object_is_all_that_is_needed(tmp_path: Path) -> None:
    """Rows are made when they are asked for; the files may be closed by then."""
    with opened(FIXTURES / "sites.o") as elf:
        assert elf.name.endswith("sites.o")
    diff = compare(FIXTURES / "sites.o", rewritten("sites.o", tmp_path))
    assert sum(len(rows(function)) for function in diff.functions) > 50


def test_a_local_function_without_its_symbol_is_still_the_same_code(tmp_path: Path) -> None:
    """strip removes local symbols: the code of `g` then belongs to `f`, and nothing differs."""
    f, g, h = function("f", 0, 8), function("g", 8, 8), function("h", 16, 4)
    section = code(NOP, NOP, LD_R2, NOP, NOP)
    whole = built(tmp_path, "a.o", Elf(sections=[section], symbols=[f, g, h]))
    for name, symbols in (("b.o", [f, h]), ("c.o", [g, h]), ("d.o", [f, g]), ("e.o", [])):
        stripped = built(tmp_path, name, Elf(sections=[section], symbols=symbols))
        for pair in ((whole, stripped), (stripped, whole)):
            diff = compare(*pair)
            assert diff.functions == ()
            assert len(diff.symbols) == 3 - len(symbols)


def test_a_renamed_function_is_the_same_code(tmp_path: Path) -> None:
    diff = changed("calls-gcc.o", tmp_path, "--redefine-sym", "in_a_loop=renamed")
    assert diff.functions == ()
    assert {symbol.name for symbol in diff.symbols} == {"in_a_loop", "renamed"}


def test_appended_code_does_not_join_the_function_before_it(tmp_path: Path) -> None:
    f = function("f", 0, 8)
    before = built(tmp_path, "a.o", Elf(sections=[code(NOP, NOP)], symbols=[f]))
    longer = Elf(sections=[code(NOP, NOP, LD_R2)], symbols=[f, function("g", 8, 4)])
    diff = compare(before, built(tmp_path, "b.o", longer))
    assert [(x.range.name, x.counts.added, x.note) for x in diff.functions] == [("g", 1, "added")]


def test_a_name_that_repeats_less_often_goes_by_place(tmp_path: Path) -> None:
    symbols = [
        elfwriter.Symbol(name="f", value=at, size=8, type=2, section=".text") for at in (0, 8, 16)
    ]
    section = code(NOP, NOP, LD_R2, NOP, BL, NOP)
    before = built(tmp_path, "a.o", Elf(sections=[section], symbols=symbols))
    after = built(tmp_path, "b.o", Elf(sections=[section], symbols=symbols[::2]))
    assert compare(before, after).functions == ()
