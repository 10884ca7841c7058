"""The Python that pages show runs and gives what they show; the API page is current."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import pytest

import scpatch
from tests.docs import api
from tests.docs.console import ROOT, blocks, commands, files, run
from tests.tools import FIXTURES


def check(page: Path) -> None:
    """Runs the Python of a page in the present folder."""
    text = "".join(blocks(page.read_text(), "python"))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert test.examples
    report: list[str] = []
    result = doctest.DocTestRunner().run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its commands, up to the rewrite."""
    page = ROOT / "docs" / "tutorial.md"
    text = page.read_text()
    for name, content in files(text).items():
        (tmp_path / name).write_text(content)
    for command in commands(text):
        if command.text.split()[:2] != ["scpatch", "verify"]:
            run(command, tmp_path)
    monkeypatch.chdir(tmp_path)
    check(page)


def test_the_api_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FIXTURES / "calls-gcc.o", tmp_path / "calls.o")
    monkeypatch.chdir(tmp_path)
    check(api.PAGE)


def test_the_api_page_is_current() -> None:
    begin, end = (f"<!-- {api.SECTION}: {word} -->" for word in ("begin", "end"))
    shown = api.PAGE.read_text().partition(begin)[2].partition(end)[0]
    assert shown.strip("\n") == "\n".join(api.lines()), "run python -m tests.docs.api"


def test_the_api_page_has_every_name() -> None:
    text = api.PAGE.read_text()
    assert [name for name in scpatch.__all__ if f"\n### {name}\n" not in text] == ["Source"]
