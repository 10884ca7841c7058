"""Every field that is read, at its bounds: `python -m tests.fuzz.every_field`.

Each field of each prebuilt file is set to 0, 1, -1, the largest signed number and one off by one,
one at a time; every such file runs in every mode of `tests.fuzz.exercise`: all strategies, with and
without a table of call sites, `advise`, and the proof as the first and as the second of two
objects. Exit status 1: something failed, and its inputs are stored.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import seeds
from tests.fuzz.exercise import NUMBERS, Exercise, ended_after, one_way
from tests.fuzz.fields import archive_places, is_archive, places
from tests.fuzz.findings import Findings
from tests.fuzz.modes import MODES
from tests.fuzz.mutate import bounds, value_of, with_field

WORKERS = 2
_HARD = 3.0


class Case(NamedTuple):
    """A file with one field changed."""

    name: str
    data: bytes
    partner: bytes
    """What it was, for the proof of both."""


class Result(NamedTuple):
    cases: int
    runs: int
    outcomes: Counter[str]
    faults: Counter[str]
    examples: dict[str, str]
    """An input for each kind of fault, in words."""


def cases(name: str, data: bytes) -> Iterator[Case]:
    """All cases of one file."""
    fields = archive_places(data) if is_archive(data) else places(data)
    for field, offset, size, order in fields:
        if field.rpartition(" ")[2].startswith("ar_"):
            continue  # text, which `tests.fuzz.mutate` changes
        old = value_of(data, offset, size, order)
        for value in bounds(size, old):
            changed = with_field(data, offset, size, value, order)
            yield Case(f"{name}, {field}: {old:#x} -> {value:#x}", changed, data)


def run(folder: Path, share: int = 1, part: int = 0, *, keep: Path | None = None) -> Result:
    """Every `share`-th run of a case in a mode, from the `part`-th on. `folder` is for files."""
    files = {**seeds.objects(), **seeds.archives(folder)}
    exercise, findings = Exercise(folder), Findings(keep or folder / "faults")
    outcomes: Counter[str] = Counter()
    examples: dict[str, str] = {}
    count = at = 0
    for name, data in files.items():
        for case in cases(name, data):
            count += 1
            for number in range(NUMBERS):
                at += 1
                if at % share != part:
                    continue
                try:
                    with ended_after(_HARD):
                        outcomes[one_way(exercise, case.data, number, case.partner)] += 1
                except Exception as error:
                    kind = findings.add(error, bytes([number, 0]) + case.data)
                    mode = MODES[number].name if number < len(MODES) else f"mode {number}"
                    examples.setdefault(kind, f"{case.name}; {mode}")
    return Result(count, sum(outcomes.values()), outcomes, findings.kinds, examples)


def _part(work: tuple[int, int, Path]) -> Result:
    share, part, keep = work
    with tempfile.TemporaryDirectory(prefix="scpatch-fuzz-") as folder:
        return run(Path(folder), share, part, keep=keep)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.every_field", description=__doc__)
    parser.add_argument("--share", type=int, default=1, help="one run of so many (1: all)")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="where to store inputs")
    chosen = parser.parse_args()
    started = time.monotonic()
    share = chosen.share * WORKERS
    with Pool(WORKERS) as pool:
        work = [(share, part, chosen.out / "fields") for part in range(WORKERS)]
        results = pool.map(_part, work)
    faults = sum((result.faults for result in results), Counter[str]())
    outcomes = sum((result.outcomes for result in results), Counter[str]())
    print("| What | Figure |\n|---|---:|")
    print(f"| files with one field changed | {results[0].cases:,} |")
    print(f"| runs in a mode | {sum(result.runs for result in results):,} |")
    for name, number in outcomes.most_common():
        print(f"| came out as: {name} | {number:,} |")
    print(f"| kinds of faults | {len(faults)} |")
    for kind, number in faults.most_common():
        example = next(result.examples[kind] for result in results if kind in result.examples)
        print(f"{number} times: {kind}\n    {example}", file=sys.stderr)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
