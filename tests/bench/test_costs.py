"""The figures of docs/explanation/costs.md: that they are still those, and what is said of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from scpatch import strategies
from scpatch.linux.offsets import Offsets
from scpatch.strategies.base import Cost
from scpatch.strategies.callsite import Rewrite
from tests.bench import calls, costs
from tests.bench.calls import LINKERS, MARKED, NAIVE, OFFSETS, TARGETS, extra
from tests.bench.costs import Program, Share
from tests.tools import FIXTURES, ROOT

PAGE = (ROOT / "docs" / "explanation" / "costs.md").read_text()
OWN = OFFSETS


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    return costs.measure(tmp_path_factory.mktemp("costs"))


def test_the_page_is_current(programs: dict[str, Program]) -> None:
    for table in (costs.program_table(programs), costs.code_table(programs)):
        for line in table:
            assert line in PAGE.splitlines()


def test_only_the_naive_call_loses_r2(programs: dict[str, Program]) -> None:
    """And it does: a count of calls that never leave their TOC would prove nothing."""
    wrong = {
        name for name, program in programs.items() if not all(row.right for row in program.rows)
    }
    assert wrong == {NAIVE}


OTHERWISE = ["callsite", "localentry"]
"""Those that can also do without what is known of a kernel."""


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize(
    ("strategy", "offsets"),
    [*((name, OFFSETS) for name in strategies.names()), *((name, Offsets()) for name in OTHERWISE)],
)
def test_what_a_strategy_says_that_it_costs(
    strategy: str, offsets: Offsets, linker: str, tmp_path: Path
) -> None:
    naive = calls.count(tmp_path, calls.rewritten(tmp_path, NAIVE).path, linker)
    rewritten = calls.rewritten(tmp_path, strategy, offsets=offsets)
    more = extra(naive, calls.count(tmp_path, rewritten.path, linker))
    figures = {
        (state, Cost(*(more[f"{name.split('_')[0]}_{target}"] for target in TARGETS)))
        for name, state in rewritten.states.items()
    }
    cost = strategies.load(strategy).cost(offsets)
    assert figures == {(state, cost[state]) for state in {state for state, _ in figures}}
    assert {state for state, _ in figures} == cost.keys() - {Rewrite.THUNK}
    assert [more[f"indirect_{target}"] for target in TARGETS] == [0, 0]


@pytest.mark.parametrize("linker", LINKERS)
def test_what_a_thunk_costs(linker: str, tmp_path: Path) -> None:
    callers = ("bare",)
    naive = calls.count(tmp_path, calls.rewritten(tmp_path, NAIVE, callers).path, linker, callers)
    rewritten = calls.rewritten(tmp_path, strategies.DEFAULT, callers)
    assert set(rewritten.states.values()) == {Rewrite.THUNK}
    more = extra(naive, calls.count(tmp_path, rewritten.path, linker, callers))
    cost = strategies.load(strategies.DEFAULT).cost(OWN)[Rewrite.THUNK]
    assert [more[f"bare_{target}"] for target in TARGETS] == list(cost)


FAILURES = {
    "at its start": "echo no such option >&2; exit 1",
    "on the way": '{qemu} "$@"; head -n 40 "$5" >"$5.cut"; mv "$5.cut" "$5"; exit 0',
    "at its end": '{qemu} "$@"; kill -9 $$',
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_qemu_that_fails_is_noticed(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = calls.rewritten(tmp_path, NAIVE).path
    calls.count(tmp_path, path, "GNU ld")
    fake = tmp_path / "qemu-ppc64le"
    fake.write_text("#!/bin/sh\n" + FAILURES[failure].format(qemu=shutil.which("qemu-ppc64le")))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(AssertionError, match="QEMU failed"):
        calls.count(tmp_path, path, "GNU ld")


@pytest.mark.parametrize("name", ["merged.o", "calls-gcc.o", "sites.o"])
@pytest.mark.parametrize("hoist", ["auto", "kernel"])
def test_callsite_is_cheaper_than_the_linkers_stub(
    name: str, hoist: str, programs: dict[str, Program]
) -> None:
    """On the average of an object's sites, whatever the target's TOC."""
    (linkers,) = programs[MARKED].rows
    assert linkers.more is not None
    figures = costs.share(FIXTURES / name, strategies.DEFAULT, hoist, OWN)
    assert isinstance(figures, Share)
    assert figures.sites > 0
    assert figures.free > 0
    assert figures.same < linkers.more[0]
    assert figures.other < linkers.more[1]


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: dict[str, Program]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    monkeypatch.setattr(costs, "measure", lambda folder: programs)
    arguments = ["costs", "--write", str(page), str(FIXTURES / "merged.o")]
    monkeypatch.setattr("sys.argv", arguments)
    costs.main()
    text = page.read_text()
    assert "## All calls of merged.o" in text
    assert text.startswith(PAGE[: PAGE.index("## All calls of")])
    assert text.endswith(PAGE[PAGE.index("## What was measured") :])
    assert costs.BY_HAND in text
