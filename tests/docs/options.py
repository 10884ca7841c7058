"""Writes the table of options into docs/upstream.md: `python -m tests.docs.options`.

Its figures are those of two other pages: the kernels that were booted, and what a call costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.bench.page import write_section
from tests.tools import ROOT

DOCS = ROOT / "docs"
PAGE = DOCS / "upstream.md"
KERNELS = DOCS / "reference" / "kernels.md"
COSTS = DOCS / "explanation" / "costs.md"
SECTION = "tests.docs.options"
HEAD = (
    "| option of the thread | here | extra | booted on | cases right |",
    "|---|---|---:|---|---|",
)


class Option(NamedTuple):
    """A row of the table."""

    thread: str
    here: str
    variant: str
    """The kernel as kernels.md calls it, without its options; big-endian ones have a prefix."""
    costs: tuple[str, ...]
    """The calls as costs.md calls them."""


OPTIONS = (
    Option("none: the trampoline as it is", "without scpatch", "without scpatch", ("naive",)),
    Option(
        "1. save r2 at the call, restore it after it",
        "`callsite`",
        "rewritten",
        ("`callsite`, by a stub", "`callsite`, r2 saved before"),
    ),
    Option("1, and patch the call site", "`callsite --emit-sites`", "at-sites", ()),
    Option("2. the livepatch stack", "`livepatch-stack`", "livepatch", ("`livepatch-stack`",)),
    Option("3. no local entry", "`localentry`", "localentry", ("`localentry`",)),
    Option("4. restore from the PACA", "`paca`, modules `callsite`", "paca", ("`paca`",)),
)

DIRECT = "one branch less, 0"
"""What a patched call site costs: a call of a target with the caller's TOC has no trampoline."""


class Boot(NamedTuple):
    """A row of kernels.md."""

    linux: str
    """6.12, or `7.3 big-endian`."""
    variant: str
    right: int
    cases: int


def cells(text: str) -> Iterator[list[str]]:
    """The cells of each row of the tables of a page."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def boots(text: str) -> Iterator[Boot]:
    for row in cells(text):
        if len(row) == 7 and (match := re.fullmatch(r"(\d+) of (\d+)", row[6])):
            name = row[3].partition(" (")[0]
            variant = name.replace("big-endian-", "").replace(", big-endian", "")
            version = ".".join(row[0].split(".")[:2])
            is_big = variant != name
            linux = f"{version} big-endian" if is_big else version
            yield Boot(linux, variant, int(match[1]), int(match[2]))


def extra(costs: dict[str, str], option: Option) -> str:
    """The extra instructions of its calls, `2, 2 or 0, 0`."""
    return " or ".join(costs[name].replace("+", "") for name in option.costs) or DIRECT


def lines(kernels: str, costs: str) -> Iterator[str]:
    """The table as Markdown, from the text of both pages.

    Raises ValueError for an option that no kernel was booted with.
    """
    every = list(boots(kernels))
    extras = {row[0]: row[3] for row in cells(costs) if len(row) == 4}
    yield from HEAD
    for option in OPTIONS:
        booted = [boot for boot in every if boot.variant == option.variant]
        if not booted:
            raise ValueError(f"{KERNELS}: no kernel {option.variant}")
        named = ", ".join(sorted({boot.linux for boot in booted}, key=_order))
        right = extra(extras, option), named, _cases(booted)
        yield f"| {' | '.join([option.thread, option.here, *right])} |"


def _order(linux: str) -> tuple[Sequence[int], str]:
    version, _, rest = linux.partition(" ")
    return [int(number) for number in version.split(".")], rest


def _cases(booted: Sequence[Boot]) -> str:
    """The figures of the boots with the most cases, which are the same on each kernel."""
    most = {max(boot.cases for boot in booted if boot.linux == linux.linux) for linux in booted}
    figures = {(boot.right, boot.cases) for boot in booted if boot.cases in most}
    return ", ".join(f"{right} of {cases}" for right, cases in sorted(figures))


def main() -> None:
    write_section(PAGE, SECTION, list(lines(KERNELS.read_text(), COSTS.read_text())))


if __name__ == "__main__":
    main()
