"""The catalogue of diagnostics is complete, and its page in docs is current."""

from __future__ import annotations

import re
from pathlib import Path

from scpatch.strategies.diagnostics import as_markdown, every_diagnostic, hint

DIAGNOSTICS = every_diagnostic()
ROOT = Path(__file__).parent.parent
CODE = re.compile(r"SCP[1-9]\d\d")


def test_every_code_that_is_used_is_described() -> None:
    used: set[str] = set()
    for source in (ROOT / "scpatch").rglob("*.py"):
        if source.name != "diagnostics.py":
            used |= set(CODE.findall(source.read_text()))
    assert used - DIAGNOSTICS.keys() == set()


def test_every_described_code_is_used() -> None:
    sources = [path for path in (ROOT / "scpatch").rglob("*.py") if path.name != "diagnostics.py"]
    text = "\n".join(path.read_text() for path in sources)
    assert [code for code in DIAGNOSTICS if code not in text] == []


def test_every_diagnostic_says_what_to_do() -> None:
    assert all(hint(code) and not hint(code).endswith(".") for code in DIAGNOSTICS)
    assert hint("SCP999") == ""


def test_the_page_in_docs_is_current() -> None:
    assert (ROOT / "docs" / "reference" / "diagnostics.md").read_text() == as_markdown()
