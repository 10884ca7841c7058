"""Counts the instructions of two loops in booted kernels: with indirect calls, with static calls as
compilers make them, and with each way to use scpatch.

    python -m tests.bench.kernel_workload [--boots 2] [--write PAGE]

Builds the kernels of the tests, and one more without static calls, and boots each of them under
`qemu-system-ppc64 -icount`. Nothing is timed, so the machine need not be idle. The section goes to
standard output, or between the marks in the page. Exit status 1: a strategy executes other
instructions than it says, or a kernel other than the naive one did not finish the loops.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scpatch import strategies
from scpatch.strategies.base import Cost
from scpatch.strategies.callsite import Rewrite
from tests.bench import kernel_size, workload
from tests.bench.calls import OFFSETS
from tests.bench.page import write_section
from tests.bench.workload import Counts, Loop, Rounds, Where
from tests.kernel.build import Kernel
from tests.kernel.linux import Linux, select
from tests.kernel.variants import AT_SITES, NAIVE, Variant

INDIRECT, STATIC, SITES = "indirect calls", "static calls, naive", "call sites patched"
FREE = Cost(0, 0)


@dataclass(frozen=True)
class Row:
    """What the boots of one kernel counted."""

    name: str
    strategy: str | None
    """Whose every call has a known cost."""
    counts: Counts
    spread: int
    """By how many instructions the medians of two boots differ at most."""

    def per_call(self, loop: Loop, where: Where, base: Row, calls: int) -> float | None:
        """How many more instructions a call takes than in the kernel of `base`. None where one of
        the two did not come to the loop's end."""
        rounds, others = self.counts.get((loop, where)), base.counts.get((loop, where))
        if rounds is None or others is None:
            return None
        return (rounds.median - others.median) / calls


def measure(linux: Linux, scratch: Path, boots: int) -> Iterator[Row]:
    yield boot_all(INDIRECT, None, workload.indirect_kernel(linux), scratch, boots)
    for name, (strategy, variant) in variants().items():
        kernel = workload.static_kernel(linux, variant)
        yield boot_all(name, strategy, kernel, scratch, boots)


def variants() -> Mapping[str, tuple[str | None, Variant]]:
    """The kernels with static calls: a row's name, the strategy, and how to build it."""
    named: dict[str, tuple[str | None, Variant]] = {STATIC: (None, NAIVE)}
    for name, variant in kernel_size.variants(strategies.names()):
        strategy, comma, rest = name.partition(",")
        named[f"`{strategy}`{comma}{rest}"] = strategy, variant
    return {**named, f"{SITES} (`--emit-sites`)": (None, AT_SITES)}


def boot_all(name: str, strategy: str | None, kernel: Kernel, scratch: Path, boots: int) -> Row:
    """Raises KernelError where the kernel is not switched off, or counts no instructions."""
    first, *others = [
        workload.counts(workload.run(kernel, Where, scratch).lines) for _ in range(boots)
    ]
    spread = [abs(first[what].median - other[what].median) for other in others for what in first]
    print(f"{name}: {dict(first)}, boots differ by {spread}", file=sys.stderr)
    return Row(name, strategy, first, max(spread, default=0))


def calls(rows: Sequence[Row], loop: Loop) -> int:
    """Calls of probes in a round, as those in the module have counted them.

    Raises ValueError where kernels differ: their figures could not be compared.
    """
    counts = [row.counts.get((loop, Where.MODULE)) for row in rows]
    numbers = {rounds.calls for rounds in counts if rounds}
    if len(numbers) != 1:
        raise ValueError(f"{loop.value}: {sorted(numbers)} calls in a round, expected one number")
    return numbers.pop()


def rounds_table(rows: Sequence[Row], loop: Loop) -> Iterator[str]:
    """Instructions of a round, and the difference to indirect calls, for each call."""
    number = calls(rows, loop)
    yield "| kernel | no probe | probes in the kernel | per call | in a module | per call |"
    yield "|---|---:|---:|---:|---:|---:|"
    for row in rows:
        cells = [row.name, _shown(row.counts.get((loop, Where.NOWHERE)))]
        for where in (Where.KERNEL, Where.MODULE):
            more = row.per_call(loop, where, rows[0], number)
            cells += [_shown(row.counts.get((loop, where))), _signed(more, row is rows[0])]
        yield f"| {' | '.join(cells)} |"


def _shown(rounds: Rounds | None) -> str:
    return "**oops**" if rounds is None else f"{rounds.median:,}"


def _signed(more: float | None, is_base: bool = False) -> str:
    return "-" if more is None or is_base else f"{more:+.1f}"


def costs_table(rows: Sequence[Row]) -> tuple[list[str], bool]:
    """The difference to naive calls and what a call of each strategy costs, and whether they agree.

    Naive calls of a module end in an oops. There the cheapest strategy takes their place, whose
    calls execute no more instructions.
    """
    naive = next(row for row in rows if row.name == STATIC)
    cheapest = next(row for row in rows if row.strategy and set(costs(row.strategy)) == {FREE})
    lines = [
        "| | kernel: memory | timers | of one call | module: memory | timers | of one call |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    agree = True
    for row in filter(lambda row: row.strategy, rows):
        cells = [row.name]
        for where, base, at in ((Where.KERNEL, naive, 0), (Where.MODULE, cheapest, 1)):
            possible = {cost[at] for cost in costs(str(row.strategy))}
            more = [row.per_call(loop, where, base, calls(rows, loop)) for loop in Loop]
            agree &= all(is_explained(each, possible) for each in more)
            cells += [*map(_signed, more), _range(possible)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines, agree


def costs(strategy: str) -> list[Cost]:
    """What a call that has a nop after it can cost."""
    by_action = strategies.load(strategy).cost(OFFSETS)
    return [cost for action, cost in by_action.items() if action is not Rewrite.THUNK]


def is_explained(more: float | None, possible: Collection[int]) -> bool:
    """Whether calls with these costs add up to the difference of a round's mean call."""
    return more is not None and min(possible) <= more <= max(possible)


def _range(possible: Collection[int]) -> str:
    low, high = min(possible), max(possible)
    return f"{low:+}" if low == high else f"{low:+} to {high:+}"


def section(linux: Linux, scratch: Path, boots: int) -> tuple[list[str], bool]:
    """The section's text, and whether each strategy costs what it says."""
    rows = list(measure(linux, scratch, boots))
    lines = [f"Linux {linux.version}. {_spread(rows, boots)}"]
    for loop in Loop:
        lines += ["", f"{loop.value.title()}, with {calls(rows, loop)} calls in a round:", ""]
        lines += rounds_table(rows, loop)
    table, agree = costs_table(rows)
    return [*lines, "", "Compared with naive calls:", "", *table], agree and have_finished(rows)


def have_finished(rows: Sequence[Row]) -> bool:
    """Whether only the naive kernel lacks counts."""
    every = {(loop, where) for loop in Loop for where in Where}
    return all(set(row.counts) == every for row in rows if row.name != STATIC)


def _spread(rows: Sequence[Row], boots: int) -> str:
    apart = max(row.spread for row in rows)
    above = max(rounds.median - rounds.least for row in rows for rounds in row.counts.values())
    return (
        f"Boots of each kernel: {boots}. The medians of two boots differ by at most {apart} "
        f"instructions, and a median is at most {above} above the round with the fewest."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.kernel_workload", description=__doc__
    )
    parser.add_argument("--boots", type=int, default=2, help="of each kernel")
    parser.add_argument("--linux", metavar="VERSION", help="the kernel; by default the newest")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the section of the page")
    args = parser.parse_args(arguments)
    (linux, *_) = select(args.linux).full
    with tempfile.TemporaryDirectory() as scratch:
        lines, agree = section(linux, Path(scratch), args.boots)
    print("\n".join(lines))
    if args.write:
        write_section(args.write, "tests.bench.kernel_workload", lines)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
