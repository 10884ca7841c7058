"""Measures scpatch beside other tools, and says whether its targets hold.

    python -m tests.bench.run [--own] [--quick] [--typer] [--write docs/explanation/benchmarks.md]

Run it in the project's folder, on a machine that does nothing else. Tables go to standard output,
progress to standard error. Exit status 1: a target was missed. --own leaves the other tools out,
--quick uses smaller files and fewer rounds: good for trying a change, not for a claim. --typer
needs the network: it installs typer releases to compare them.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import report
from tests.bench.measure import MIB, Command, Result, memory_floor, side_by_side
from tests.bench.report import Target
from tests.bench.tools import all_commands, bare_python, scpatch, versions
from tests.bench.typer_releases import typer_section


@dataclass(frozen=True, slots=True)
class Sizes:
    """How big the objects are, and how often each command runs."""

    middle: str
    large: str
    steps: tuple[str, ...]
    rounds: int


FULL = Sizes("150M", "1G", ("50M", "150M", "450M"), 9)
QUICK = Sizes("30M", "100M", ("10M", "30M", "90M"), 3)
BASES = ("cp", "python -c pass")
RELOCATIONS = (25_000, 100_000, 400_000)


def object_file(folder: Path, name: str, *options: str) -> Path:
    """A generated object, made by another process so that this one stays small."""
    path = folder / f"{name}.o"
    subprocess.run([sys.executable, "-m", "tests.bench.generate", *options, path], check=True)
    return path


def copies(folder: Path, size: str, rounds: int, own: bool) -> list[Result]:
    """All tools on one object, and a Python that does nothing."""
    file = object_file(folder, size, "--size", size)
    commands = [bare_python(), *all_commands(file, folder)]
    if own:
        commands = [c for c in commands if c.name in BASES or c.name.startswith("scpatch")]
    try:
        return side_by_side(commands, rounds)
    finally:
        file.unlink()


def scan_growth(folder: Path, steps: Sequence[str], rounds: int) -> list[str]:
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
            files.append(object_file(folder, f"scan-{name}", "--size", size, *fixed))
        commands = [Command(file.stem, scpatch("scan", str(file))) for file in files]
        results = side_by_side(commands, rounds)
        by_code = what.startswith("relocations")
        numbers = RELOCATIONS if by_code else [file.stat().st_size for file in files]
        still = f"files of {middle}" if by_code else f"{RELOCATIONS[1]:,} relocations on code"
        lines += ["", f"{what.capitalize()}, with {still}:", ""]
        lines += report.growth(list(zip(numbers, results, strict=True)), what)
        for file in files:
            file.unlink()
    return lines


def measure(folder: Path, sizes: Sizes, own: bool) -> tuple[list[str], bool]:
    """The page without its head, and whether all targets hold."""
    floor = memory_floor()
    rounds, command = sizes.rounds, "scpatch rewrite"
    targets = [
        (Target(sizes.middle, command, "cp", 3, 100 * MIB), rounds),
        (Target(sizes.large, command, "cp", 1.5), max(3, rounds - 2)),
        (Target("6K", command, "python -c pass", 10), 3 * rounds),
    ]
    lines, verdicts = [], []
    for target, count in targets:
        results = copies(folder, target.table, count, own)
        lines += ["", f"## An object of {target.table}B", ""]
        lines += report.table(results, target.base, floor)
        verdicts.append(target.check(results))
    lines += ["", "## What a scan costs", *scan_growth(folder, sizes.steps, rounds)]
    head = ["## Targets", "", *(f"- {text}" for _, text in verdicts)]
    if sizes is not FULL:
        head += ["", "The targets are for 150 MB and 1 GB; start-up weighs more in smaller files."]
    return [*head, *lines], all(holds for holds, _ in verdicts)


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
        lines, holds = measure(Path(folder), QUICK if args.quick else FULL, args.own)
        if args.typer:
            lines += typer_section(Path(folder))
    lines += ["", "## Measured with", "", *(f"- {line}" for line in versions())]
    print("\n".join(lines))
    if args.write:
        args.write.write_text("\n".join([report.HEAD, *lines]) + "\n")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
