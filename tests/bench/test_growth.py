"""Twice as much costs no more than twice as many steps, by the calls that Python makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.growth import KINDS, Cost, cost, make, steps, table

MOST = 2.4
"""Times as many calls for twice as much: sorting and searching add a little."""


def costs(folder: Path, kind: str, count: int) -> dict[str, Cost]:
    return {name: cost(step, count=True) for name, step in steps(make(folder, kind, count))}


@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_grows_with_the_number(tmp_path: Path, kind: str) -> None:
    costs(tmp_path, kind, 4)  # imports, caches
    half, whole = (costs(tmp_path, kind, count) for count in (120, 240))
    ratios = {name: whole[name].calls / half[name].calls for name in half}
    assert {name: ratio for name, ratio in ratios.items() if ratio > MOST} == {}
    assert ratios["verify"] > 1.2


def test_a_table_is_made(tmp_path: Path) -> None:
    first, second = table(tmp_path, "functions", [4, 8])
    assert first.startswith("| functions | 4 | ")
    assert second.count("x)") == 3
