"""What a thing costs does not depend on how many there are, by the steps that Python makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.differ import align
from tests.bench.growth import KINDS, Cost, cost, make, steps, table

_FEW = 60
_MOST = 0.5
"""Steps for each pair of things: less than one step can only be for something else."""


def costs(folder: Path, kind: str, count: int) -> dict[str, Cost]:
    return {name: cost(step, count=True) for name, step in steps(make(folder, kind, count))}


@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_grows_with_the_number(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(align, "_SMALL", 0)  # difflib compares all pairs of a small stretch
    costs(tmp_path, kind, 4)  # imports, caches
    few, twice, more = (costs(tmp_path, kind, count) for count in (_FEW, 2 * _FEW, 4 * _FEW))
    for_pairs = {
        name: (more[name].steps - 3 * twice[name].steps + 2 * few[name].steps) / (6 * _FEW**2)
        for name in few
    }
    assert {name: steps for name, steps in for_pairs.items() if steps > _MOST} == {}
    assert twice["verify"].steps > 1.2 * few["verify"].steps


def test_a_table_is_made(tmp_path: Path) -> None:
    first, second = table(tmp_path, "functions", [4, 8])
    assert first.startswith("| functions | 4 | ")
    assert second.count("x)") == 5
