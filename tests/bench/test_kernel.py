"""What the benchmark of kernel builds makes of its figures."""

from pathlib import Path

import pytest

from tests.bench.kernel import Tree, rows, share, turns, verdict
from tests.bench.measure import Result, Sample
from tests.kernel.variants import NAIVE, REWRITTEN


def result(name: str, *seconds: float) -> Result:
    return Result(name, tuple(Sample(second, 2 * second, 0) for second in seconds))


def test_the_trees_take_turns_in_changing_order(tmp_path: Path) -> None:
    trees = [
        Tree(tmp_path, tmp_path, name, variant)
        for name, variant in (("a", NAIVE), ("b", REWRITTEN))
    ]
    assert "".join(turn.name for turn in turns(trees, 3)) == "abbaab"
    assert any(word.startswith("LD=") and "scpatch-ld" in word for word in trees[1].make().argv)
    assert not any("scpatch-ld" in word for word in trees[0].make().argv)


@pytest.mark.parametrize(
    ("seconds", "holds", "said"),
    [(101.9, True, "+1.9 % with scpatch"), (102.1, False, "+2.1 % with scpatch")],
)
def test_a_clean_build_is_judged_by_its_share(seconds: float, holds: bool, said: str) -> None:
    results = [result("without", 90, 100, 120), result("with", 100, seconds, 104)]
    held, text = verdict("a clean build", results, 0.02, relative=True)
    assert held == holds
    assert said in text
    assert ("does not hold" in text) != holds


@pytest.mark.parametrize(
    ("seconds", "holds", "said"),
    [(10.9, True, "+0.90 s with scpatch"), (11.1, False, "+1.10 s with scpatch")],
)
def test_a_relink_is_judged_by_its_seconds(seconds: float, holds: bool, said: str) -> None:
    results = [result("without", 9, 10, 12), result("with", seconds)]
    held, text = verdict("one object changed", results, 1, relative=False)
    assert held == holds
    assert said in text


def test_the_table_has_median_spread_and_processor_time() -> None:
    assert rows("clean", [result("without", 2, 4, 3)]) == [
        "| clean | without | 3.000 s | 2.000 s to 4.000 s | 6.000 s | 3 |"
    ]


def test_what_the_links_take_longer_is_a_share_of_the_clean_build() -> None:
    text = share(result("without", 200), [result("without", 10), result("with", 12)])
    assert "+2.00 s with scpatch, 1.0 % of a clean build" in text
    assert "processor time +4.00 s, 1.0 %" in text
