"""docs/reference/json.md says what the reports do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scpatch import strategies
from scpatch.advisor import advise
from scpatch.differ.model import Mark
from scpatch.report.advise import AdviseReport
from scpatch.report.diff import DiffReport
from scpatch.report.forms import print_report
from scpatch.report.rewrite import RewriteReport
from scpatch.report.scan import ScanReport
from scpatch.report.verify import VerifyReport
from scpatch.rewriter import Options, plan_file
from scpatch.strategies.plans import ListedSite, TrampolineEdit
from scpatch.verifier.files import verify_files
from tests.report.support import FIXTURES, ROOT, compare, plan, rewritten, schema

TEXT = (ROOT / "docs" / "reference" / "json.md").read_text()


def documented() -> dict[str, dict[str, int]]:
    """Command -> kind of line -> number of fields, by the table; 0 where it is not countable."""
    fields_by_kind: dict[str, dict[str, int]] = {}
    table = TEXT.partition("| command | kind |")[2].partition("\n\n")[0]
    for commands, kinds, fields in re.findall(r"^\| (`[^|]*) \| `(\w+)` \| (.*) \|$", table, re.M):
        for command in re.findall(r"`(\w+)`", commands):
            fields_by_kind.setdefault(command, {})[kinds] = len(re.split(r", |; ", fields))
    return fields_by_kind


def kinds(text: str) -> dict[str, int]:
    return {line.split("\t")[0]: len(line.split("\t")) - 2 for line in text.splitlines()}


def test_kinds_of_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = documented()
    after = rewritten("sites.o", tmp_path)
    print_report(
        ScanReport([("x.o", plan_file(after, Options(strategy=None)).objects[0].scan)]), "plain"
    )
    assert kinds(capsys.readouterr().out) == table["scan"]
    whole = plan("sites.o")
    (planned,) = whole.objects
    edit = TrampolineEdit("__SCT__x", 1, ".text", 0, "marked")
    entry = ListedSite(1, ".text", 0, "__SCK__x")
    planned = planned._replace(plan=planned.plan._replace(trampolines=(edit,), listed=(entry,)))
    print_report(RewriteReport([whole._replace(objects=(planned,))], True), "plain")
    assert kinds(capsys.readouterr().out) == table["rewrite"]
    print_report(VerifyReport(verify_files(FIXTURES / "sites.o", after)), "plain")
    print_report(VerifyReport(verify_files(FIXTURES / "sites.o", FIXTURES / "marked.o")), "plain")
    printed = kinds(capsys.readouterr().out)
    assert printed.keys() == table["verify"].keys()
    assert printed["site"] == 9


def test_kinds_of_lines_of_a_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite_diff = compare(FIXTURES / "refused.o", rewritten("refused.o", tmp_path))
    other = compare(FIXTURES / "calls-gcc.o", FIXTURES / "calls-clang.o")
    files = [("a", "b", rewrite_diff), ("c", "d", other)]
    print_report(DiffReport(files, alone=[(Path("e"), Path("f"))]), "plain")
    printed = kinds(capsys.readouterr().out)
    assert printed.keys() == documented()["diff"].keys()
    # "then of each side word, text, relocations" is six fields, "changed, added, removed" three.
    assert printed["code"] == 10
    assert printed["function"] == 9
    assert printed["summary"] == 7


def test_kinds_of_lines_of_advice(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(AdviseReport([advise(FIXTURES / "sites.o", Options(None), image=False)]), "plain")
    printed = kinds(capsys.readouterr().out)
    table = documented()["advise"]
    assert printed.keys() == table.keys()
    assert (printed["strategy"], printed["file"]) == (table["strategy"], table["file"])


def test_states_and_marks_are_listed() -> None:
    for state in strategies.every_action():
        assert re.search(rf"^\| `{state}` \|", TEXT, re.M), state
    for mark in Mark:
        assert f'`"{mark}"`' in TEXT


def test_fields_named_in_the_text_exist() -> None:
    known = set(re.findall(r'"(\w+)":', str(schema()).replace("'", '"')))
    table = TEXT.partition("| command | the document")[2].partition("###")[0]
    commands = {"scan", "rewrite", "diff", "verify", "check", "advise"}
    named = set(re.findall(r"`([a-z_]+)`", table)) - commands
    assert named
    assert named <= known
