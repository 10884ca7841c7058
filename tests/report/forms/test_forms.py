"""Every form draws every report."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from scpatch.advisor import advise
from scpatch.report import forms
from scpatch.report.advise import AdviseReport
from scpatch.report.blocks import Report
from scpatch.report.diff import DiffReport
from scpatch.report.forms import FORMS, OutputForm, print_report
from scpatch.report.look import DEFAULT_LOOK
from scpatch.report.rewrite import RewriteReport
from scpatch.report.scan import ScanReport
from scpatch.report.verify import VerifyReport
from scpatch.rewriter import Options
from scpatch.verifier.files import verify_files
from tests.report.support import FIXTURES, compare, plan, rewritten, validated

BEFORE = FIXTURES / "refused.o"


def scan_report(_folder: Path) -> Report:
    return ScanReport([("refused.o", plan("refused.o").objects[0].scan)])


def rewrite_report(_folder: Path) -> Report:
    return RewriteReport([plan("refused.o")], written=False)


def diff_report(folder: Path) -> Report:
    return DiffReport([("a.o", "b.o", compare(BEFORE, rewritten("refused.o", folder)))])


def verify_report(folder: Path) -> Report:
    return VerifyReport(verify_files(BEFORE, rewritten("refused.o", folder)))


def advise_report(_folder: Path) -> Report:
    return AdviseReport([advise(BEFORE, Options(), image=False)])


REPORTS = [scan_report, rewrite_report, diff_report, verify_report, advise_report]


@pytest.mark.parametrize("make", REPORTS)
@pytest.mark.parametrize("name", FORMS)
def test_every_form_draws_every_report(
    name: str, make: Callable[[Path], Report], tmp_path: Path
) -> None:
    form: OutputForm = import_module(f"scpatch.report.forms.{name}")
    stream = io.StringIO()
    form.write(make(tmp_path), stream, DEFAULT_LOOK)
    assert "SCP203" in stream.getvalue() or make is verify_report
    assert stream.getvalue().endswith("\n")
    if name == "json":
        assert validated(stream.getvalue())["command"] == make.__name__.removesuffix("_report")


def test_the_modules_are_the_forms() -> None:
    folder = Path(forms.__file__).parent
    assert sorted(FORMS) == sorted(path.stem for path in folder.glob("[a-z]*.py"))


@pytest.mark.parametrize(("form", "imported"), [("plain", False), ("text", False), ("json", True)])
def test_only_json_imports_msgspec(form: str, imported: bool) -> None:
    program = (
        "import os, sys; from scpatch.__main__ import main; os._exit = sys.exit\n"
        "try: main()\n"
        "finally: print('msgspec' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "scan", "--format", form, str(BEFORE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1:] == [str(imported)]


def test_json_is_ascii_and_holds_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    scan = plan("refused.o").objects[0].scan
    print_report(ScanReport([("grüße-\U0001f600-\x1b", scan)]), "json")
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text)["files"][0]["file"] == "grüße-\U0001f600-\\x1b"


@pytest.mark.parametrize("make", REPORTS)
def test_json_is_indented_as_the_standard_library_does(
    make: Callable[[Path], Report], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(make(tmp_path), "json")
    text = capsys.readouterr().out
    assert text == json.dumps(json.loads(text), indent=1) + "\n"
