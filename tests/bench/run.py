"""Measures scpatch beside other tools, and says whether its targets hold.

    python -m tests.bench.run [--own] [--quick] [--typer] [--write docs/explanation/benchmarks.md]

Run it in the project's folder, on a machine that does nothing else. Tables go to standard output,
progress to standard error. Exit status 1: a target was missed. --own leaves the other tools out,
--quick uses smaller files and fewer rounds: good for trying a change, not for a claim. --typer
needs the network: it installs typer releases to compare them.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import growing, report
from tests.bench.growing import object_file
from tests.bench.installed import install
from tests.bench.measure import MIB, Command, Result, memory_floor, side_by_side
from tests.bench.report import Target
from tests.bench.tools import all_commands, bare_python, module_links, scpatch, versions
from tests.bench.typer_releases import typer_section


@dataclass(frozen=True, slots=True)
class Sizes:
    """How big the objects are, and how often each command runs."""

    middle: str
    large: str
    steps: tuple[str, ...]
    rounds: int
    charted: int
    """How many sizes the charts have."""


FULL = Sizes("150M", "1G", ("50M", "150M", "450M"), 9, 6)
QUICK = Sizes("30M", "100M", ("10M", "30M", "90M"), 3, 3)
REWRITE = "scpatch rewrite"
BASES = ("cp", "python -c pass", "objcopy", "ld -r")
RELOCATIONS = (25_000, 100_000, 400_000)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the objects go, and what runs scpatch."""

    folder: Path
    python: Path
    own: bool


def copies(bench: Bench, size: str, rounds: int) -> list[Result]:
    """All tools on one object, and a Python that does nothing."""
    file = object_file(bench.folder, size, "--size", size)
    commands = [bare_python(bench.python), *all_commands(file, bench.folder, bench.python)]
    if bench.own:
        commands = [c for c in commands if c.name in BASES or c.name.startswith("scpatch")]
    try:
        return side_by_side(commands, rounds)
    finally:
        file.unlink()


def scan_growth(bench: Bench, steps: Sequence[str], rounds: int) -> list[str]:
    """The cost of a scan against relocations on code, and against debug information."""
    lines: list[str] = []
    middle = steps[len(steps) // 2]
    for what, options in (
        ("relocations on code", [(f"{n}", middle, n) for n in RELOCATIONS]),
        ("bytes of the file", [(size, size, RELOCATIONS[1]) for size in steps]),
    ):
        files = []
        for name, size, relocations in options:
            fixed = ("--code-relocations", str(relocations), "--sections", "6000")
            files.append(object_file(bench.folder, f"scan-{name}", "--size", size, *fixed))
        commands = [
            Command(file.stem, scpatch(bench.python, "scan", "--no-lines", file)) for file in files
        ]
        results = side_by_side(commands, rounds)
        by_code = what.startswith("relocations")
        numbers = RELOCATIONS if by_code else [file.stat().st_size for file in files]
        still = f"files of {middle}" if by_code else f"{RELOCATIONS[1]:,} relocations on code"
        lines += ["", f"{what.capitalize()}, with {still}:", ""]
        lines += report.growth(list(zip(numbers, results, strict=True)), what)
        for file in files:
            file.unlink()
    return lines


def measure(bench: Bench, sizes: Sizes) -> tuple[list[str], dict[str, str], bool]:
    """The page without its head, its charts by file name, and whether all targets hold."""
    floor = memory_floor()
    rounds, bare = sizes.rounds, "python -c pass"
    tables = [
        (
            rounds,
            [
                Target(sizes.middle, REWRITE, "cp", 5, 100 * MIB),
                Target(sizes.middle, REWRITE, "objcopy", 0.6),
                Target(sizes.middle, REWRITE, "ld -r", 0.6),
            ],
        ),
        (
            max(3, rounds - 2),
            [Target(sizes.large, REWRITE, "cp", 2), Target(sizes.large, REWRITE, "objcopy", 0.5)],
        ),
        (3 * rounds, [Target("7K", REWRITE, bare, 6)]),
    ]
    lines, verdicts = [], []
    for count, targets in tables:
        results = copies(bench, targets[0].table, count)
        lines += ["", f"## An object of {targets[0].table}B", ""]
        lines += report.table(results, targets[0].base, floor)
        verdicts += [target.check(results) for target in targets]
    links = [bare_python(bench.python), *module_links(bench.folder, bench.python)]
    results = side_by_side(links, 3 * rounds)
    lines += ["", "## The link of a small module", "", *report.table(results, bare, floor)]
    verdicts.append(Target("a module", "scpatch-ld ld", bare, 5).check(results))
    lines += [
        "",
        "## What a scan without source lines costs",
        *scan_growth(bench, sizes.steps, rounds),
    ]
    rows = growing.measure(bench.folder, bench.python, sizes.charted, max(3, rounds // 2))
    charts = growing.charts(*rows)
    head = ["## Targets", "", *(f"- {text}" for _, text in verdicts), "", "## How the time grows"]
    for name in charts:
        head += ["", f"![{name.removesuffix('.svg')}]({name})"]
    head += growing.tables(*rows)
    if sizes is not FULL:
        head += ["", "The targets are for 150 MB and 1 GB; start-up weighs more in smaller files."]
    return [*head, *lines], charts, all(holds for holds, _ in verdicts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller files, fewer rounds")
    parser.add_argument("--own", action="store_true", help="only scpatch and its targets")
    parser.add_argument("--typer", action="store_true", help="compare typer releases, too")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--folder", type=Path, help="where to put the objects, 4 GB at most")
    args = parser.parse_args(arguments)
    if args.write and (args.quick or args.own):
        parser.error("--write is for the whole benchmark")
    with tempfile.TemporaryDirectory(prefix="scpatch-bench-", dir=args.folder) as folder:
        bench = Bench(Path(folder), install(Path(folder)), args.own)
        load = f"load average {os.getloadavg()[0]:.1f} when it started"
        lines, charts, holds = measure(bench, QUICK if args.quick else FULL)
        if args.typer:
            lines += typer_section(Path(folder))
    lines += ["", "## Measured with", "", *(f"- {line}" for line in [*versions(), load])]
    print("\n".join(lines))
    if args.write:
        args.write.write_text("\n".join([report.HEAD, *lines]) + "\n")
        for name, picture in charts.items():
            args.write.with_name(name).write_text(picture)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
