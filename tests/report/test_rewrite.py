"""The result of a rewrite: the summary line, and the three forms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scpatch.elf.layout import Edits, SectionEdit
from scpatch.report.filters import EVERYTHING
from scpatch.report.forms import print_report
from scpatch.report.messages import print_refusals, print_sites, print_stats
from scpatch.report.rewrite import RewriteReport
from scpatch.report.words import summary_line
from scpatch.rewriter import FilePlan, ObjectPlan, Options, plan_file
from scpatch.sites.actions import Action, Common
from scpatch.sites.model import Scan, Site, Trampoline
from scpatch.strategies.callsite import Rewrite
from scpatch.strategies.plans import ListedSite, NewStub, Plan
from tests.report.support import FIXTURES, plan, rewritten, run, validated
from tests.sites.support import key
from tests.tools import CROSS, assemble, section


def made(*states: Action, stubs: int = 0, thunks: int = 0, listed: int = 0) -> ObjectPlan:
    """A plan with sites of these states; its stubs and thunks are four bytes each."""
    callee = Trampoline("__SCT__x", 1, 0, 0, 0, 0, 0)
    sites = tuple(
        Site(1, ".text", 8 * i, "f", 8 * i, "__SCT__x", callee, i, 1, 0, 0x48000001, state=state)
        for i, state in enumerate(states)
    )
    new = tuple(
        NewStub("r2", "__SCT__x", 1, ".text", 0, b"abcd", 1, is_thunk)
        for is_thunk in [False] * stubs + [True] * thunks
    )
    entries = (ListedSite(1, ".text", 0, "__SCK__x"),) * listed
    changed = bool(listed) or any(state.changes for state in states)
    edits = Edits({1: SectionEdit((), b"abcd" * len(new))} if changed else {})
    plan = Plan("callsite", sites, new, listed=entries, edits=edits)
    return ObjectPlan("x.o", Scan((), (), sites, module=False), plan)


def summary(*objects: ObjectPlan, written: bool = True) -> str:
    return summary_line(FilePlan(Path("x.o"), objects, ()), written=written)


REWRITE, SAVED, THUNK, DONE = Rewrite.REWRITE, Rewrite.SAVED, Rewrite.THUNK, Common.DONE


@pytest.mark.parametrize(
    ("planned", "text"),
    [
        (made(), "nothing to do: no call sites"),
        (made(DONE), "nothing to do: 1 done already"),
        (
            made(DONE, DONE, Common.LOADER, Common.LINKER, Common.NOTOC),
            "nothing to do: 2 done already, 1 left to the linker, 1 left to the module loader, "
            "1 not in need of r2",
        ),
        (made(Common.REFUSED), "no call site rewritten: 1 refused"),
        (made(REWRITE, stubs=1), "1 call site rewritten (by 1 stub), +4 bytes of code"),
        (made(REWRITE, REWRITE, stubs=2), "2 call sites rewritten (by 2 stubs), +8 bytes of code"),
        (made(SAVED), "1 call site rewritten (saved already), +0 bytes of code"),
        (made(DONE, listed=1), "1 call site listed, 1 done already, +0 bytes of code"),
        (
            made(SAVED, DONE, listed=2),
            "1 call site rewritten (saved already), 2 call sites listed, 1 done already, "
            "+0 bytes of code",
        ),
        (made(THUNK, thunks=1), "1 call site rewritten (by 1 thunk), +4 bytes of code"),
        (
            made(REWRITE, REWRITE, SAVED, THUNK, DONE, Common.REFUSED, stubs=1, thunks=1),
            "4 call sites rewritten (2 by 1 stub, 1 saved already, 1 by 1 thunk), 1 done already, "
            "1 refused, +8 bytes of code",
        ),
    ],
)
def test_summary(planned: ObjectPlan, text: str) -> None:
    assert summary(planned) == f"x.o: {text}"


def test_summary_of_a_dry_run() -> None:
    line = summary(made(REWRITE, stubs=1), written=False)
    assert line == "x.o: 1 call site would be rewritten (by 1 stub), +4 bytes of code"


def test_summary_of_an_archive() -> None:
    line = summary(made(REWRITE, stubs=1), made(), made(SAVED, DONE))
    assert line == (
        "x.o: 2 call sites rewritten (1 by 1 stub, 1 saved already) in 2 of 3 members, "
        "1 done already, +4 bytes of code"
    )


def test_summary_of_an_archive_that_gets_tables() -> None:
    line = summary(made(DONE, listed=1), made(), made(DONE, listed=1))
    assert line == ("x.o: 2 call sites listed in 2 of 3 members, 2 done already, +0 bytes of code")


def test_the_listed_sites_in_each_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = assemble(tmp_path, key("x") + "FRAME f\nCALL __SCT__x\nLEAVE f\n")
    whole = plan_file(path, Options(emit_sites=True))
    print_report(RewriteReport([whole], True), "plain")
    lines = capsys.readouterr().out.splitlines()
    assert f"listed\t{path}\t.text+0x14\t__SCK__x" in lines
    print_report(RewriteReport([whole], True), "json")
    files = validated(capsys.readouterr().out)["files"]
    assert isinstance(files, list)
    (entry,) = files[0]["objects"][0]["listed"]
    index = section(path, ".text").index
    assert entry == {"section": ".text", "section_index": index, "offset": 20, "key": "__SCK__x"}
    print_report(RewriteReport([whole], True), "text")
    assert re.search(r"listed +\.text\+0x14 +__SCK__x", capsys.readouterr().out)


def test_summary_names_the_output(tmp_path: Path) -> None:
    target = tmp_path / "out.o"
    line = summary_line(plan("calls-gcc.o", target), written=True)
    assert line.startswith(f"{FIXTURES}/calls-gcc.o -> {target}: ")


def test_bytes_of_code_are_what_size_tells(tmp_path: Path) -> None:
    """The growth is that of the executable sections by binutils' reckoning."""
    after = rewritten("sites.o", tmp_path)
    sizes = []
    for path in (FIXTURES / "sites.o", after):
        lines = run(CROSS + "size", "-A", "-d", path).splitlines()
        fields = [line.split() for line in lines if "text" in line]
        sizes.append(sum(int(field[1]) for field in fields))
    assert sizes[1] > sizes[0]
    assert f", +{sizes[1] - sizes[0]} bytes of code" in summary_line(plan("sites.o"), written=True)


def test_plain_has_a_line_for_each_site_and_stub(capsys: pytest.CaptureFixture[str]) -> None:
    whole = plan("sites.o")
    print_report(RewriteReport([whole], True), "plain")
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    kinds = [fields[0] for fields in lines]
    planned = whole.objects[0].plan
    assert kinds == ["site"] * len(planned.sites) + ["stub"] * len(planned.stubs) + ["object"]
    stubs = {fields[3]: fields[2] for fields in lines if fields[0] == "stub"}
    assert len(stubs) == len(planned.stubs)
    assert lines[-1][2:] == ["callsite", str(len(planned.changed)), "63"]


def test_stubs_of_the_report_are_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = rewritten("refused.o", tmp_path, thunks=True)
    print_report(RewriteReport([plan("refused.o", thunks=True)], True), "json")
    document = validated(capsys.readouterr().out)
    files = document["files"]
    assert isinstance(files, list)
    stubs = files[0]["objects"][0]["stubs"]
    listed = run(CROSS + "nm", after)
    for stub in stubs:
        kind = "W" if stub["kind"] == "stub" else "[tTW]"
        assert any(
            line.split()[0] == f"{stub['offset']:016x}" and line.endswith(" " + stub["name"])
            for line in listed.splitlines()
        ), (kind, listed)
    assert {stub["kind"] for stub in stubs} == {"stub", "thunk"}
    assert files[0]["objects"][0]["states"]["thunk"] == 3


def test_table_tells_states_and_stubs(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(RewriteReport([plan("sites.o"), plan("unmarked.o")], written=False), "text")
    out = capsys.readouterr().out
    assert "  rewrite  .text+0x14 " in out
    assert "  stub  .text+0x384 " in out
    for name in ("sites.o", "unmarked.o"):
        assert summary_line(plan(name), written=False) in out.splitlines()


def test_verbose_has_one_line_a_site(capsys: pytest.CaptureFixture[str]) -> None:
    print_sites(plan("refused.o"), EVERYTHING)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 8
    assert lines[0].endswith("refused.o: .text+0x14 in accepted+0x14: __SCT__name: to rewrite")
    assert lines[1].endswith("refused (SCP203: sibling call (b) to __SCT__name)")


def test_stats_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    print_stats([plan("sites.o"), plan("refused.o", thunks=True), plan("unmarked.o")])
    captured = capsys.readouterr()
    assert captured.out == ""
    title, *rows, share = (line.split() for line in captured.err.splitlines())
    total = dict(zip(title[1:], map(int, rows.pop()[1:]), strict=True))
    for index, name in enumerate(title[1:], 1):
        assert total[name] == sum(int(row[index]) for row in rows), name
    assert (total["stubs"], total["thunks"]) == (9, 3)
    changed = total["rewrite"] + total["saved"] + total["thunk"]
    assert " ".join(share) == (
        f"without a stub: {total['saved']} of {changed} changed sites "
        f"({total['saved'] / changed:.1%})"
    )


def test_stats_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_stats([FilePlan(Path("x.o"), (made(),), ())])
    assert capsys.readouterr().err == "no call sites\n"


def test_refusals_have_one_hint_for_each_code(capsys: pytest.CaptureFixture[str]) -> None:
    print_refusals([plan("refused.o"), plan("refused.o")])
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    messages = [line for line in lines if line.startswith("scpatch: error: ")]
    assert len(messages) == 14
    assert messages[0] == (
        f"scpatch: error: {FIXTURES}/refused.o: .text+0x64 in no_nop+0x14: "
        "no nop after the call [SCP201]"
    )
    assert [line.partition(": ")[0] for line in lines] == ["scpatch", "scpatch", "hint"] * 7


def test_refusals_name_the_source_line(capsys: pytest.CaptureFixture[str]) -> None:
    whole = plan("refused.o")
    planned = whole.objects[0]
    sites = tuple(site._replace(line="net/core.c:1204") for site in planned.plan.sites)
    lined = whole._replace(objects=(planned._replace(plan=planned.plan._replace(sites=sites)),))
    print_refusals([lined])
    assert ".text+0x64 in no_nop+0x14 (net/core.c:1204): no nop" in capsys.readouterr().err


def test_no_refusals_are_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_refusals([plan("calls-gcc.o")])
    assert capsys.readouterr() == ("", "")
