"""The figures as Markdown: tables, targets, and the page docs/explanation/benchmarks.md."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.measure import MIB, Result

HEAD = """# Benchmarks

How long `scpatch` takes, compared with a plain copy of the same file, with other tools that read or
write objects, and with a Python that does nothing. The figures are from one machine at one time and
do not apply to another; only the ratio of two lines of a table does. This page was written by

    python -m tests.bench.run --write docs/explanation/benchmarks.md

Every figure is the wall time of whole processes, including start-up, with the input in the page
cache. The commands of a table take turns, in a different order each round, and write to a name that
does not exist yet. A first round is not counted. Dirty pages are written back between the commands,
outside the measured time. Ratios, targets and charts compare the fastest rounds: what else runs on
the machine only makes a round slower. Only `--sync` waits for the disk, as no other tool does. The
Python that runs scpatch has it installed, not as an editable checkout, and "`python -c pass`" is
the same Python doing nothing. Processor time is the median of user and system time, memory is the
peak resident size, both as the kernel reports them for the process. The objects come from
`tests/bench/generate.py`, those of the second chart from GNU as. [What was done for
speed](performance.md) says where the time goes.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: `command` takes at most `factor` times as long as `base`, and so much memory."""

    table: str
    command: str
    base: str
    factor: float
    memory: int = 0

    def check(self, results: Sequence[Result]) -> tuple[bool, str]:
        """Whether it holds, and a sentence about it."""
        by_name = {result.name: result for result in results}
        own, base = by_name[self.command], by_name[self.base]
        if own.failure or base.failure:
            return False, f"{self.table}: not measured: {own.failure or base.failure}"
        ratio = own.spread[0] / base.spread[0]
        holds = ratio <= self.factor
        text = f"{self.command} takes {ratio:.2f} times `{self.base}`, target {self.factor:g}"
        if self.memory:
            holds = holds and own.memory <= self.memory
            text += f"; {own.memory / MIB:.0f} MiB of memory, target {self.memory / MIB:.0f}"
        return holds, f"{self.table}: {text}: {'holds' if holds else '**does not hold**'}"


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds:.3f} s"


def table(results: Sequence[Result], base: str, floor: int) -> list[str]:
    """A Markdown table, fastest command first, with ratios to the command `base`."""
    by_name = {result.name: result for result in results}
    unit = by_name[base].spread[0]
    lines = [
        f"| command | median | fastest to slowest | / `{base}` | processor | memory | rounds |"
    ]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for result in sorted(results, key=lambda r: r.median if r.samples else float("inf")):
        if not result.samples:
            lines.append(f"| {result.name} | - | {result.failure} | - | - | - | - |")
            continue
        low, high = (duration(value) for value in result.spread)
        # At the floor the peak is that of the runner, not of the command.
        measured = result.memory > floor + MIB
        memory = f"{result.memory / MIB:.0f} MiB" if measured else f"< {floor / MIB:.0f} MiB"
        ratio = f"{result.spread[0] / unit:.2f}"
        cells = [result.name, duration(result.median), f"{low} to {high}", ratio]
        cells += [duration(result.cpu), memory]
        lines.append(f"| {' | '.join(cells)} | {len(result.samples)} |")
    return lines


def growth(rows: Sequence[tuple[int, Result]], what: str) -> list[str]:
    """A table of one command against a growing number, and the slope between its ends."""
    lines = [f"| {what} | median | fastest to slowest | memory |", "|---:|---:|---:|---:|"]
    for number, result in rows:
        if result.failure:
            lines.append(f"| {number:,} | - | {result.failure} | - |")
            continue
        low, high = (duration(value) for value in result.spread)
        cells = [f"{number:,}", duration(result.median), f"{low} to {high}"]
        lines.append(f"| {' | '.join(cells)} | {result.memory / MIB:.0f} MiB |")
    (first, fast), (last, slow) = rows[0], rows[-1]
    if fast.failure or slow.failure:
        return lines
    slope = (slow.median - fast.median) / (last - first) * 1e6
    return [*lines, "", f"From the first row to the last: {slope:.4f} microseconds each."]
