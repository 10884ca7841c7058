"""Writes the table of the kernels that were booted: `python -m tests.kernel.table [FOLDER...]`.

It reads what runs of `sh tests/run.sh kernel` have left in the cache of this machine, and in
folders that were copied from others. What another state of scpatch has left is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.page import write_section
from tests.kernel.cases import FATAL
from tests.kernel.results import Result, results_folder, state
from tests.kernel.variants import BIG_ENDIAN_NAIVE
from tests.tools import ROOT

PAGE = ROOT / "docs" / "reference" / "kernels.md"
SECTION = "tests.kernel.table"
HEAD = (
    "| Linux | compiler | linker | variant | MMU | calls in vmlinux | cases right |",
    "|---|---|---|---|---|---:|---:|",
)


def read(folders: Iterable[Path]) -> list[Result]:
    files = [file for folder in folders for file in sorted(folder.glob("*.json"))]
    return [Result(**json.loads(file.read_text())) for file in files]


def lines(results: Sequence[Result]) -> list[str]:
    """A row for each boot that was meant to come to its end, the newest kernel first."""
    booted = [result for result in results if not set(result.steps) <= set(FATAL)]
    return [*HEAD, *dict.fromkeys(map(_row, sorted(booted, key=_order)))]


def _order(result: Result) -> tuple[object, ...]:
    version = [-int(number) for number in result.linux.split("-")[0].split(".")]
    return version, result.compiler, result.flags is not None, result.variant, result.mmu


def _row(result: Result) -> str:
    linux = result.linux.split("-")[0]
    right = f"{result.right} of {result.cases}" if result.ended else "did not come to its end"
    cells = [linux, result.compiler, result.linker, _what(result), result.mmu]
    return f"| {' | '.join(cells)} | {result.calls} | {right} |"


def _what(result: Result) -> str:
    if result.flags is None:
        is_big = result.variant == BIG_ENDIAN_NAIVE.name
        return "without scpatch, big-endian" if is_big else "without scpatch"
    return f"{result.variant} (`{result.flags}`)" if result.flags else result.variant


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernel.table", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    every = read([results_folder(), *parser.parse_args(arguments).folders])
    results = [result for result in every if result.scpatch == state()]
    if len(results) < len(every):
        print(f"{len(every) - len(results)} results are of another scpatch", file=sys.stderr)
    if not results:
        print("there are no results of this scpatch", file=sys.stderr)
        return 1
    write_section(PAGE, SECTION, lines(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
