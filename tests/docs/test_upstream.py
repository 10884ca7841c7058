"""The reproducers of docs/upstream.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import tools
from tests.tools import ROOT

_PAIR = re.compile(r"^### (.*?)\n.*?^```sh\n(.*?)^```\n\n```text\n(.*?)^```$", re.M | re.S)
REPRODUCERS = _PAIR.findall((ROOT / "docs" / "upstream.md").read_text())


def test_there_are_three() -> None:
    assert [title.partition(":")[0] for title, _, _ in REPRODUCERS] == [
        "GNU ld",
        "A branch to a weak undefined symbol runs on, or loops",
        "lld",
    ]


@pytest.mark.parametrize(("title", "script", "printed"), REPRODUCERS)
def test_a_reproducer(title: str, script: str, printed: str, tmp_path: Path) -> None:
    assert len(script.splitlines()) <= 12, title
    done = tools.run("sh", "-eu", "-c", script, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (printed, "")
