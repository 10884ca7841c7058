"""The reproducers of docs/upstream.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import tools
from tests.bench.page import write_section
from tests.docs import options
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
    assert len(script.splitlines()) <= 11, title
    done = tools.run("sh", "-eu", "-c", script, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (printed, "")


def test_the_table_has_the_figures_of_the_other_pages(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text := options.PAGE.read_text())
    pages = (options.KERNELS.read_text(), options.COSTS.read_text())
    write_section(page, options.SECTION, list(options.lines(*pages)))
    assert page.read_text() == text, "python -m tests.docs.options"


def test_the_table_names_the_kernels_and_the_largest_boots() -> None:
    row = "| {} | gcc | ld | {} | radix | 551 | {} |\n"
    variants = [option.variant for option in options.OPTIONS]
    kernels = "".join(row.format("7.3.4", name, "3 of 3") for name in variants)
    kernels += row.format("6.12.1", "paca (`x`)", "3 of 3")
    kernels += row.format("7.3.4", "big-endian-paca", "3 of 3") + row.format(
        "7.3.4", "paca", "1 of 1"
    )
    kernels += row.format("7.3.4", "without scpatch, big-endian", "2 of 3")
    table = list(options.lines(kernels, options.COSTS.read_text()))
    assert table[2].endswith("| 0, 0 | 7.3, 7.3 big-endian | 2 of 3, 3 of 3 |")
    assert table[3].endswith("| 2, 2 or 0, 0 | 7.3 | 3 of 3 |")
    assert table[-1].endswith("| 0, 0 | 6.12, 7.3, 7.3 big-endian | 3 of 3 |")
