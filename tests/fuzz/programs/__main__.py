"""`python -m tests.fuzz.programs`: many random programs, a table, a folder for each failure."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.programs.check import VARIANTS, Bench, Result
from tests.fuzz.programs.generate import Program, generate
from tests.fuzz.programs.report import keep, tables
from tests.fuzz.programs.shrink import shrink

RUN_EVERY = 8
"""`verify` executes the sites of one in so many programs."""


def check_many(numbers: Sequence[int], seed: int) -> list[Result]:
    """Checks the programs with these numbers, in a new folder."""
    with tempfile.TemporaryDirectory(prefix="scpatch-programs-") as folder:
        bench = Bench(Path(folder))
        return [
            bench.check(number, generate(seed + number), run=number % RUN_EVERY == 0)
            for number in numbers
        ]


def smaller(result: Result, attempts: int) -> Result:
    """The same failure of a smaller program."""
    wanted = {(failure.variant, failure.kind) for failure in result.failures[:1]}
    variants = [variant for variant in VARIANTS if any(variant.name == name for name, _ in wanted)]
    with tempfile.TemporaryDirectory(prefix="scpatch-programs-") as folder:
        bench = Bench(Path(folder))

        def attempt(program: Program) -> Result:
            return bench.check_with(
                result.number,
                program,
                result.compiler,
                result.options,
                variants,
                run=result.failures[0].kind == "executed",
            )

        program = shrink(
            result.program,
            lambda result: bool(
                wanted & {(each.variant, each.kind) for each in attempt(result).failures}
            ),
            attempts,
        )
        return attempt(program) if program != result.program else result


def _chunk(work: tuple[list[int], int]) -> list[Result]:
    return check_many(*work)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.programs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="number of programs")
    parser.add_argument("--seed", type=int, default=2022, help="of the first program")
    parser.add_argument("--jobs", type=int, default=2, help="programs at a time")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder")
    parser.add_argument("--shrink", type=int, default=150, help="attempts at each; 0: as they are")
    given = parser.parse_args()

    started = time.monotonic()
    size = 20
    numbers = list(range(given.rounds))
    work = [(numbers[at : at + size], given.seed) for at in range(0, len(numbers), size)]
    results: list[Result] = []
    with multiprocessing.Pool(given.jobs) as pool:
        for part in pool.imap_unordered(_chunk, work):
            results += part
            failed = sum(bool(result.failures) for result in results)
            seconds = time.monotonic() - started
            print(f"{len(results)} programs, {failed} failed, {seconds:.0f} s", file=sys.stderr)
    results.sort(key=lambda result: result.number)
    print(tables(results))
    print(f"{time.monotonic() - started:.0f} s with {given.jobs} jobs, seed {given.seed}.")
    for result in results:
        if result.failures:
            reduced = smaller(result, given.shrink) if given.shrink else result
            print(f"{keep(reduced, given.failures)}: {result.failures[0]}")
    return any(result.failures for result in results)


if __name__ == "__main__":
    sys.exit(main())
