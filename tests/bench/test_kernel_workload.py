"""What the benchmark of the workload reads from boots, and makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from scpatch import strategies
from scpatch.strategies.base import Cost
from tests.bench import kernel_workload, workload
from tests.bench.kernel_workload import (
    STATIC,
    Row,
    calls,
    costs,
    costs_table,
    have_finished,
    rounds_table,
)
from tests.bench.workload import Loop, Rounds, Where, counts
from tests.kernel.store import KernelError
from tests.kernel.variants import NAIVE

LOG = """\
[    0.9] workload: branches 1000000 ticks 4096005
[    1.0] workload: memory nowhere calls 0 ticks 820 821 4096
[    1.1] Something else
[    1.2] workload: branches 1000000 ticks 4096004
[    1.3] workload: timers module calls 5 ticks 4096 8192 16384
""".splitlines()
CALLS = {Loop.MEMORY: 2, Loop.TIMERS: 5}


def row(
    name: str, strategy: str | None, more: int = 0, *, loops: Mapping[Loop, int] = CALLS
) -> Row:
    """A kernel with `more` instructions for each call."""
    counted = {
        (loop, where): Rounds(99, 100 + more * number, 5000, number if where is Where.MODULE else 0)
        for loop, number in loops.items()
        for where in Where
    }
    return Row(name, strategy, counted, 0)


def without_probes_of_modules(row: Row) -> Row:
    """As if the first of them had ended the boot."""
    kept = {what: rounds for what, rounds in row.counts.items() if what[1] is not Where.MODULE}
    return Row(row.name, row.strategy, kept, row.spread)


def test_ticks_become_instructions() -> None:
    assert counts(LOG) == {
        (Loop.MEMORY, Where.NOWHERE): Rounds(200, 200, 1000, 0),
        (Loop.TIMERS, Where.MODULE): Rounds(1000, 2000, 4000, 5),
    }


@pytest.mark.parametrize("second", ["4097000", "3900000"])
def test_a_timebase_that_follows_the_clock_is_noticed(second: str) -> None:
    lines = [line.replace("4096004", second) for line in LOG]
    with pytest.raises(KernelError, match="does not advance with instructions"):
        counts(lines)


def test_a_log_without_a_row_of_known_length_is_no_figure() -> None:
    with pytest.raises(KernelError, match="does not advance with instructions"):
        counts([line for line in LOG if "branches" not in line])


def test_the_table_shows_the_difference_of_a_call() -> None:
    rows = [row("pointers", None, 30), without_probes_of_modules(row(STATIC, None))]
    assert list(rounds_table(rows, Loop.TIMERS))[2:] == [
        "| pointers | 250 | 250 | - | 250 | - |",
        f"| {STATIC} | 100 | 100 | -30.0 | **oops** | - |",
    ]


def test_kernels_with_other_calls_are_not_compared() -> None:
    rows = [row("one", None), row("other", None, loops={Loop.MEMORY: 3})]
    with pytest.raises(ValueError, match=r"memory: \[2, 3\] calls in a round"):
        calls(rows, Loop.MEMORY)
    assert calls(rows, Loop.TIMERS) == CALLS[Loop.TIMERS]


def dearest(strategy: str) -> Cost:
    return max(costs(strategy))


def rows_of_all(more: int = 0) -> list[Row]:
    """Kernels whose calls cost what the strategies say, and `more`."""
    named = [row(name, name, dearest(name).same + more) for name in strategies.names()]
    for index, own in enumerate(named):
        other = row(own.name, own.strategy, dearest(own.name).other + more).counts
        in_modules = {what: other[what] for what in other if what[1] is Where.MODULE}
        named[index] = Row(own.name, own.strategy, {**own.counts, **in_modules}, own.spread)
    return [without_probes_of_modules(row(STATIC, None)), *named]


def test_costs_that_the_strategies_state_agree() -> None:
    lines, agree = costs_table(rows_of_all())
    assert agree
    assert len(lines) == 2 + len(strategies.names())
    for name in strategies.names():
        (line,) = (line for line in lines if line.startswith(f"| {name} |"))
        same, other = dearest(name)
        assert line.startswith(f"| {name} | {same:+}.0 | {same:+}.0 | ")
        assert f" | {other:+}.0 | {other:+}.0 | " in line


def test_an_instruction_that_no_strategy_states_is_noticed() -> None:
    _, agree = costs_table(rows_of_all(more=1))
    assert not agree


def test_a_kernel_that_does_not_finish_is_noticed() -> None:
    """Whether its calls have a known cost or not; of the naive one it is expected."""
    rows = rows_of_all()
    assert have_finished(rows)
    assert not have_finished([*rows, without_probes_of_modules(row("patched", None))])
    _, agree = costs_table([*rows[:-1], without_probes_of_modules(rows[-1]), rows[-1]])
    assert not agree


def test_every_strategy_has_a_kernel() -> None:
    named = kernel_workload.variants()
    assert {strategy for strategy, _ in named.values()} == {None, *strategies.names()}
    assert named[STATIC] == (None, NAIVE)


def test_the_command_writes_its_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its exit status says whether the figures are explained."""
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- tests.bench.kernel_workload: begin -->\nold\n"
        "<!-- tests.bench.kernel_workload: end -->\nafter\n"
    )
    rows = rows_of_all()
    monkeypatch.setattr(kernel_workload, "measure", lambda *arguments: iter(rows))
    assert kernel_workload.main(["--linux", "6.1", "--write", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert all(line in text for line in rounds_table(rows, Loop.MEMORY))
    assert text.count("\n| ") == len(capsys.readouterr().out.split("\n| ")) - 1
    monkeypatch.setattr(kernel_workload, "measure", lambda *arguments: iter(rows_of_all(more=1)))
    assert kernel_workload.main(["--linux", "6.1"]) == 1


def test_a_boot_counts_by_instructions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(workload, "boot", lambda *words, **named: seen.update(named, words=words))
    workload.run(None, Where, tmp_path)  # type: ignore[arg-type]
    assert seen["options"] == workload.COUNTED
    assert seen["processors"] == 1
    assert seen["words"][1] == [f"workload/{where.value}" for where in Where]  # type: ignore[index]


def test_spread_is_that_of_the_medians(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    boots = iter([row("first", None), row("second", None, more=3)])
    monkeypatch.setattr(workload, "run", lambda *arguments: next(boots))
    monkeypatch.setattr(Row, "lines", property(lambda self: self), raising=False)
    monkeypatch.setattr(workload, "counts", lambda lines: lines.counts)
    kernel = None
    counted = kernel_workload.boot_all("k", None, kernel, tmp_path, 2)  # type: ignore[arg-type]
    assert counted.spread == 3 * CALLS[Loop.TIMERS]
    assert counted.counts == row("first", None).counts


def test_the_kernel_without_static_calls_is_asked_for_none(linux_lines: list[str]) -> None:
    assert linux_lines
    assert not [line for line in linux_lines if "STATIC_CALL" in line]


@pytest.fixture
def linux_lines() -> list[str]:
    return workload.indirect_configuration().splitlines()
