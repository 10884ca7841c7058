"""The forms of the diff report: for a terminal, plain, JSON."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scpatch.differ.model import Mark
from scpatch.report.diff import DiffReport
from scpatch.report.forms import print_report
from scpatch.report.forms.text import draw
from scpatch.report.screen import Screen
from tests.report.support import (
    FIXTURES,
    changed_rows,
    compare,
    plan,
    rewritten,
    rows,
    run,
    validated,
)
from tests.tools import CROSS


def lines(fixture: str, folder: Path, width: int, colours: int = 0) -> list[str]:
    diff = compare(FIXTURES / fixture, rewritten(fixture, folder))
    return list(draw(DiffReport([("before.o", "after.o", diff)]), Screen(width, colours)))


def test_side_by_side(tmp_path: Path) -> None:
    drawn = lines("calls-gcc.o", tmp_path, 100)
    assert drawn[0] == "before.o -> after.o   ET_REL ppc64le ELFv2   strategy callsite"
    start = drawn.index("returns_the_call  .text+0xf0  1 call site")
    assert [line.rstrip() for line in drawn[start + 1 : start + 9]] == [
        "     ...",
        "     8  7c0802a6  mflr  r0                           | 7c0802a6  mflr  r0",
        "     c  f8010010  std   r0,16(r1)                    | f8010010  std   r0,16(r1)",
        "    10  f821ffe1  stdu  r1,-32(r1)                   | f821ffe1  stdu  r1,-32(r1)",
        "~   14  48000001  bl    __SCT__elsewhere             | "
        + re.sub(r".* \| ", "", drawn[start + 5]),
        "*   18  60000000  nop                                | e8410018  ld    r2,24(r1)",
        "    1c  38210020  addi  r1,r1,32                     | 38210020  addi  r1,r1,32",
        "    20  e8010010  ld    r0,16(r1)                    | e8010010  ld    r0,16(r1)",
    ]
    right = re.sub(r".* \| ", "", drawn[start + 5])
    assert re.fullmatch(r"48000001  bl    r2save\.__SCT\S*\.\.\S*[0-9a-f]{8}", right)


def test_stacked_below_100_columns(tmp_path: Path) -> None:
    drawn = lines("calls-gcc.o", tmp_path, 99)
    assert not any(" | " in line for line in drawn)
    start = drawn.index("returns_the_call  .text+0xf0  1 call site")
    (name,) = {
        stub.name
        for stub in plan("calls-gcc.o").objects[0].plan.stubs
        if stub.trampoline == "__SCT__elsewhere" and stub.section_name == ".text"
    }
    assert drawn[start + 4 : start + 9] == [
        "     10  f821ffe1  stdu  r1,-32(r1)",
        "~-   14  48000001  bl    __SCT__elsewhere",
        f"~+   14  48000001  bl    {name}",
        "*-   18  60000000  nop",
        "*+   18  e8410018  ld    r2,24(r1)",
    ]


def test_a_relocation_has_its_own_line_if_no_text_says_it(tmp_path: Path) -> None:
    """`bl f` looks the same with REL24 and with REL24_NOTOC."""
    before, after = tmp_path / "before.o", tmp_path / "after.o"
    for path, kind in ((before, "R_PPC64_REL24"), (after, "R_PPC64_REL24_NOTOC")):
        source = tmp_path / "f.s"
        source.write_text(f"f: .reloc ., {kind}, g\n bl 0\n nop\n .type f, @function\n")
        run(CROSS + "as", "-mpower10", "-o", path, source)
    drawn = list(draw(DiffReport([("b.o", "a.o", compare(before, after))]), Screen(80, 0)))
    assert drawn[drawn.index("f  .text+0x0") + 1 :][:4] == [
        "~-    0  48000001  bl    g",
        " -       REL24     g",
        "~+    0  48000001  bl    g",
        " +       REL24_NOTOC g",
    ]


@pytest.mark.parametrize("width", [60, 80, 99, 100, 120, 160])
@pytest.mark.parametrize("fixture", ["calls-gcc.o", "sites.o", "refused.o", "calls-gcc-dwarf.o"])
def test_nothing_is_lost_on_any_screen(fixture: str, width: int, tmp_path: Path) -> None:
    """Every changed word and offset is there whole, and rows fit."""
    drawn = "\n".join(lines(fixture, tmp_path, width))
    diff = compare(FIXTURES / fixture, tmp_path / f"after-{fixture}")
    for row in changed_rows(diff):
        for instruction in (row.before, row.after):
            if instruction is not None:
                assert f"{instruction.word:0{2 * instruction.size}x}" in drawn
                assert re.search(rf"^\S{{0,2}} +{instruction.function_offset:x}  ", drawn, re.M)
    code = [line for line in drawn.splitlines() if re.search(r" [0-9a-f]{8}  ", line)]
    assert code
    assert max(map(len, code)) <= width


def test_both_offsets_are_shown_where_code_has_moved() -> None:
    diff = compare(FIXTURES / "calls-gcc.o", FIXTURES / "calls-clang.o")
    drawn = list(draw(DiffReport([("a.o", "b.o", diff)]), Screen(120, 0)))
    moved = 0
    for row in (row for function in diff.functions for row in rows(function)):
        if row.before and row.after and row.before.function_offset != row.after.function_offset:
            moved += 1
            left = rf". +{row.before.function_offset:x}  {row.before.word:08x}  .*"
            right = rf" \| +{row.after.function_offset:x}  {row.after.word:08x}  .*"
            assert any(re.fullmatch(left + right, line) for line in drawn)
    assert moved > 10


def test_marks_survive_without_colour(tmp_path: Path) -> None:
    plain = lines("sites.o", tmp_path, 120)
    colourful = lines("sites.o", tmp_path, 120, 256)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in colourful] == plain
    assert any("\x1b[" in line for line in colourful)
    diff = compare(FIXTURES / "sites.o", tmp_path / "after-sites.o")
    for mark in (Mark.RELOCATION, Mark.WORD, Mark.ADDED, Mark.CHECKED):
        wanted = sum(row.mark is mark for function in diff.functions for row in rows(function))
        pattern = rf"^{re.escape(mark)} +[0-9a-f]* +([0-9a-f]{{2,8}}|\|) "
        assert wanted == sum(bool(re.match(pattern, line)) for line in plain), mark


def test_refused_sites_come_with_hints(tmp_path: Path) -> None:
    drawn = lines("refused.o", tmp_path, 100)
    at = next(i for i, line in enumerate(drawn) if line.startswith("!    8  48000000"))
    assert drawn[at + 1].split(maxsplit=1) == [
        "!",
        "SCP203 sibling call (b) to __SCT__name: left as it is",
    ]
    assert sum(line.startswith("  hint: ") for line in drawn) == 7
    assert drawn[1].endswith("8 call sites, 7 refused; 6 sections, 1 symbol")
    assert drawn.index("Refused") < at


def test_a_long_file_name_has_its_own_line(tmp_path: Path) -> None:
    diff = compare(FIXTURES / "sites.o", rewritten("sites.o", tmp_path))
    drawn = list(draw(DiffReport([("b" * 60, "a" * 60, diff)]), Screen(80, 0)))
    assert drawn[:2] == [f"{'b' * 60} -> {'a' * 60}", "  ET_REL ppc64le ELFv2   strategy callsite"]


def test_no_difference() -> None:
    diff = compare(FIXTURES / "sites.o", FIXTURES / "sites.o")
    assert list(draw(DiffReport([("a.o", "b.o", diff)]), Screen(80, 0))) == [
        "a.o -> b.o",
        "no difference",
    ]


def test_plain_is_one_line_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff = compare(FIXTURES / "sites.o", rewritten("sites.o", tmp_path))
    print_report(DiffReport([("a.o", "b.o", diff)]), "plain")
    records = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert all(fields[1] == "b.o" for fields in records)
    code = [fields[2:] for fields in records if fields[0] == "code"]
    assert len(code) == len(changed_rows(diff))
    assert code[0][:3] == ["~", ".text+0x14", "nop_ori+0x14"]
    assert code[0][3:6] == ["48000001", "bl __SCT__global", "REL24:__SCT__global"]
    assert code[1] == [
        *("*", ".text+0x18", "nop_ori+0x18", "60000000", "nop", "-"),
        *("e8410018", "ld r2,24(r1)", "-", "-"),
    ]
    assert {len(fields) for fields in code} == {10}
    widths: dict[str, set[int]] = {}
    for fields in records:
        widths.setdefault(fields[0], set()).add(len(fields))
    assert all(len(width) == 1 for width in widths.values()), widths
    total = next(fields for fields in records if fields[0] == "summary" and fields[2] == "total")
    changed = sum(row.mark in (Mark.WORD, Mark.RELOCATION) for row in changed_rows(diff))
    assert int(total[4]) == changed


@pytest.mark.parametrize("pair", [("refused.o", ""), ("calls-gcc.o", "calls-clang.o")])
def test_json_follows_the_schema_and_has_the_same_rows(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = FIXTURES / pair[0]
    after = FIXTURES / pair[1] if pair[1] else rewritten(pair[0], tmp_path)
    diff = compare(before, after)
    print_report(
        DiffReport([("a.o", "b.o", diff), ("c.o", "d.o", compare(before, before))]), "json"
    )
    document = validated(capsys.readouterr().out)
    files = document["files"]
    assert isinstance(files, list)
    assert [file["same"] for file in files] == [False, True]
    told = [
        (
            row["mark"],
            row["before"] and row["before"]["word"],
            row["after"] and row["after"]["text"],
        )
        for function in files[0]["functions"]
        for hunk in function["hunks"]
        for row in hunk
    ]
    assert len(told) == sum(len(rows(function)) for function in diff.functions)
    assert [function["name"] for function in files[0]["functions"]] == [
        function.range.name for function in diff.functions
    ]


def test_no_files_are_an_empty_report(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "plain"):
        print_report(DiffReport([]), form)
    assert capsys.readouterr().out == ""
    print_report(DiffReport([]), "json")
    assert validated(capsys.readouterr().out)["files"] == []


def test_a_pipe_gets_no_escape_sequences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    diff = compare(FIXTURES / "sites.o", rewritten("sites.o", tmp_path))
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    print_report(DiffReport([("a.o", "b.o", diff)]), "text")
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_report(DiffReport([("a.o", "b.o", diff)]), "text")
    assert "\x1b" in capsys.readouterr().out


def test_stat_is_one_line_a_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff = compare(FIXTURES / "calls-gcc.o", FIXTURES / "calls-clang.o")
    report = DiffReport([("a.o", "b.o", diff)], stat=True)
    _, total, gap, *table = draw(report, Screen(100, 0))
    assert total.startswith("11 functions: 29 words changed, 78 added, 118 removed")
    assert not gap
    assert len(table) == len(diff.functions) == 11
    for function, line in zip(diff.functions, table, strict=True):
        name, _, words, graph, *_ = line.split()
        counts = function.counts
        assert name == function.name
        assert int(words) == counts.changed + counts.added + counts.removed
        assert [mark in graph for mark in "*+-"] == [n > 0 for n in counts[1:4]]
    print_report(report, "plain")
    kinds = {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()}
    assert kinds == {"file", "function", "summary"}
