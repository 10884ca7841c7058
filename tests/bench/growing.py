"""How the time grows with the size of an object, and with its call sites: two charts."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import report
from tests.bench.chart import Line, draw
from tests.bench.measure import Command, Result, side_by_side
from tests.bench.tools import all_commands
from tests.tools import assemble

SIZES = (("10M", 1e7), ("30M", 3e7), ("100M", 1e8), ("300M", 3e8), ("1G", 1e9), ("2G", 2e9))
SITES = (10, 100, 1_000, 10_000, 100_000)
_SHOWN = ("scpatch rewrite", "cp", "objcopy", "ld -r")
_SECTION = 4_000
"""Functions in a section of code, so that each call reaches its stub."""

Rows = list[tuple[float, list[Result]]]


def object_file(folder: Path, name: str, *options: str) -> Path:
    """A generated object, made by another process so that this one stays small."""
    path = folder / f"{name}.o"
    subprocess.run([sys.executable, "-m", "tests.bench.generate", *options, path], check=True)
    return path


def object_with_sites(folder: Path, count: int) -> Path:
    """An object with `count` functions, each with a call site that needs a stub."""
    functions = (
        f"{_section(number)}FRAME f{number}\n CALL __SCT__x\n LEAVE f{number}\n"
        for number in range(count)
    )
    return assemble(folder, "".join(functions), f"sites-{count}.o")


def _section(number: int) -> str:
    return "" if number % _SECTION else f'.section .text.{number}, "ax"\n'


def measure(folder: Path, python: Path, sizes: int, rounds: int) -> tuple[Rows, Rows]:
    """The first `sizes` sizes and numbers of call sites, with what each command took."""
    by_size: Rows = []
    by_sites: Rows = []
    for name, size in SIZES[:sizes]:
        by_size.append((size, _results(object_file(folder, name, "--size", name), python, rounds)))
    for count in SITES[: sizes - 1]:
        by_sites.append((count, _results(object_with_sites(folder, count), python, rounds)))
    return by_size, by_sites


def _results(file: Path, python: Path, rounds: int) -> list[Result]:
    commands: dict[str, Command] = {c.name: c for c in all_commands(file, file.parent, python)}
    try:
        return side_by_side([commands[name] for name in _SHOWN], rounds)
    finally:
        file.unlink()


def charts(by_size: Rows, by_sites: Rows) -> dict[str, str]:
    """File name -> picture."""
    sizes = [(size, name + "B") for name, size in SIZES if size in {row[0] for row in by_size}]
    sites = [(count, f"{count:,}") for count, _ in by_sites]
    return {
        "benchmarks-size.svg": draw("Time by size", "bytes of the object", sizes, _lines(by_size)),
        "benchmarks-sites.svg": draw("Time by call sites", "call sites", sites, _lines(by_sites)),
    }


def _lines(rows: Rows) -> list[Line]:
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in _SHOWN}
    for number, results in rows:
        for result in results:
            if result.samples:
                points[result.name].append((number, result.spread[0]))
    return [Line(name, tuple(places)) for name, places in points.items() if places]


def tables(by_size: Rows, by_sites: Rows) -> Iterator[str]:
    """The figures of the charts."""
    for what, rows in (("bytes", by_size), ("call sites", by_sites)):
        yield ""
        yield f"| {what} | {' | '.join(_SHOWN)} |"
        yield "|---:" * (len(_SHOWN) + 1) + "|"
        for number, results in rows:
            yield f"| {number:,.0f} | {' | '.join(_cells(results))} |"


def _cells(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        yield report.duration(result.spread[0]) if result.samples else f"- ({result.failure})"
