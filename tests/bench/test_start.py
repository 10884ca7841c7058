"""Where the time of a start goes: the modules, and the sums of the tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench import start
from tests.bench.measure import Command, Result, Sample
from tests.bench.start import BARE, HOOK, SCRIPT, imports, tables


@pytest.mark.parametrize("first", [(), ("env", "-C", "/")])
def test_the_modules_of_a_process_and_of_its_child(first: tuple[str, ...]) -> None:
    found = imports(Command("x", (*first, sys.executable, "-c", "import colorsys")))
    assert {"colorsys", "os"} <= found.keys()
    assert all(0 <= seconds < 1 for seconds in found.values())


def test_the_parts_of_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        BARE: {"os": 0.001},
        "ld": {},
        HOOK: {"os": 0.001, "re": 0.002, "scpatch": 0.001, "scpatch.elf": 0.003},
    }
    monkeypatch.setattr(start, "imports", lambda command: found[command.name])
    least = {SCRIPT: 0.001, BARE: 0.010, "ld": 0.003, HOOK: 0.040}
    results = [
        Result(name, (Sample(1.0, seconds + 1, 0), Sample(1.0, seconds, 0)))
        for name, seconds in least.items()
    ]
    lines = list(tables(results, [Command(name, (name,)) for name in least]))
    assert lines[2:6] == [
        f"| `{SCRIPT}` | 1.0 ms | 0.10 | - |",
        "| `ld` | 3.0 ms | 0.30 | - |",
        f"| `{BARE}` | 10.0 ms | 1.00 | 1 |",
        f"| `{HOOK}` | 40.0 ms | 4.00 | 4 |",
    ]
    assert lines[-3] == "| import scpatch, plan and write | 26.0 ms |"
    assert lines[-2].endswith("import 1 modules of the standard library | 2.0 ms |")
    assert lines[-1].endswith("import 2 modules of scpatch | 4.0 ms |")


def test_the_page_has_the_place() -> None:
    page = Path(__file__).parents[2] / "docs/explanation/performance.md"
    assert page.read_text().count("<!-- start: begin -->") == 1
