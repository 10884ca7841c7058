"""The report of `diff`: what differs between two versions of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

from scpatch.differ.model import (
    FunctionDiff,
    Mark,
    ObjectDiff,
    SectionDiff,
    Totals,
)
from scpatch.errors import ScpatchError
from scpatch.report.blocks import (
    GAP,
    Block,
    Cell,
    Finding,
    Level,
    Line,
    Listing,
    Paragraph,
    Record,
    Style,
    Table,
    Title,
    heading,
    note_shown,
    number,
    place_cell,
)
from scpatch.report.diff_records import changed_fields, records_of
from scpatch.report.filters import EVERYTHING, Filter
from scpatch.report.listing import MARKS
from scpatch.report.scan import refusal
from scpatch.report.words import call_sites, count, unread
from scpatch.sites.model import Site
from scpatch.strategies.diagnostics import hint

_MANY: Final = 20
"""How many rows of a table a person gets."""

_IN_SHORT: Final = ("file", "function", "refused", "summary")
"""The kinds of records that there are with `stat` too."""

_GRAPH: Final = 24
"""The width of the widest graph, in columns."""


class DiffReport(NamedTuple):
    files: Sequence[tuple[str, str, ObjectDiff]]
    """The names before and after, and the difference."""
    stat: bool = False
    """Whether there is one line a function instead of its code."""
    shown: Filter = EVERYTHING
    failed: Sequence[ScpatchError] = ()
    compared: int | None = None
    """The number of pairs of files in two folders. A person then gets a total, too."""
    alone: Sequence[tuple[Path, Path]] = ()
    """Files that only one of two folders has, each with the folder that lacks it."""

    @property
    def command(self) -> str:
        return "diff"

    def blocks(self) -> Iterator[Block]:
        if self.compared is not None:
            yield Line((Cell(self._overview(), style=Style.HEADING),))
        for index, (before, after, diff) in enumerate(self.files):
            if index or self.compared is not None:
                yield GAP
            strategy = f"   strategy {diff.strategy}" if diff.strategy else ""
            yield Title(f"{before} -> {after}", diff.kind + strategy)
            yield from (_stat if self.stat else _object)(diff, self.shown)

    def records(self) -> Iterator[Record]:
        for before, after, diff in self.files:
            for kind, *fields in records_of(before, diff, self.shown):
                if kind in _IN_SHORT or not self.stat:
                    yield kind, after, *fields

        for path, folder in self.alone:
            yield "alone", path, folder

    def _overview(self) -> str:
        """`total: 2 objects in 40 files differ: 3 functions: 6 words changed, ...`"""
        changed = [diff for _, _, diff in self.files]
        verb = "differ" if len(changed) > 1 else "differs"
        number = count(len(changed), "object") if changed else "nothing"
        text = f"total: {number} in {count(self.compared or 0, 'file')} {verb}"
        text += f": {_total(changed)}" if changed else ""
        text += f"; {count(len(self.alone), 'file')} in one folder only" if self.alone else ""
        return text + unread(self.failed)

    def findings(self) -> Iterator[Finding]:
        """The refused calls, and what differs in each object."""
        for _, after, diff in self.files:
            for site in self.shown.calls(diff.refused):
                yield refusal(after, site)
            if not diff.same:
                yield Finding(Level.NOTE, "differs", after, "", "", _total([diff]))
        for path, folder in self.alone:
            message = f"there is no such file in {folder}"
            yield Finding(Level.WARNING, "alone", str(path), "", "", message)


def _object(diff: ObjectDiff, shown: Filter) -> Iterator[Block]:
    if diff.same:
        yield _line("no difference")
        return
    if diff.only_layout:
        yield _line("the same contents: only file offsets or padding between sections differ")
    yield from _summary(diff, shown)
    if refused := shown.calls(diff.refused):
        yield from _section("Refused")
        yield from _refused(refused)
    for index, function in enumerate(shown.code(diff.functions)):
        yield Listing(function, legend=not index)
    if shown.active:
        return
    if diff.symbols:
        yield from _section("Symbols")
        yield Table(
            [
                (
                    _mark_cell(symbol.mark),
                    Cell(symbol.name or "(no name)"),
                    Cell("", changed_fields(symbol.fields) or symbol.what),
                )
                for symbol in diff.symbols
            ],
            indent=0,
            limit=_MANY,
        )
    for section in diff.sections:
        if section.relocations:
            yield from _section(f"Relocations in {section.name}")
            rows = [
                (
                    _mark_cell(mark),
                    Cell("", f"{entry.at:#x}"),
                    Cell("", entry.type_name),
                    Cell(entry.symbol, entry.target.removeprefix(entry.symbol)),
                )
                for mark, entry in sorted(section.relocations, key=lambda pair: pair[1].at)
            ]
            yield Table(rows, indent=0, limit=_MANY)


def _stat(diff: ObjectDiff, shown: Filter) -> Iterator[Block]:
    """One line a function: the words that differ, as a number and as a graph."""
    if diff.same or not diff.functions:
        yield from _object(diff, shown)
        return
    functions = shown.code(diff.functions)
    yield _line(_total([diff]))
    if shown.active:
        yield note_shown(len(functions), len(diff.functions), "function")
    if functions:
        yield GAP
        most = max(_words(function.counts) for function in functions)
        yield Table([_stat_cells(function, most) for function in functions])


def _words(counts: Totals) -> int:
    return counts.changed + counts.added + counts.removed


def _stat_cells(function: FunctionDiff, most: int) -> tuple[Cell, ...]:
    counts = function.counts
    parts = (Mark.WORD, counts.changed), (Mark.ADDED, counts.added), (Mark.REMOVED, counts.removed)
    scale = min(1.0, _GRAPH / max(most, 1))
    graph = "".join(mark * max(round(scale * number), 1) for mark, number in parts if number)
    sites = call_sites(counts.sites) if counts.sites else ""
    refused = f", {counts.refused:,} refused" if counts.refused else ""
    return (
        Cell(function.name or "(no symbol)"),
        place_cell(function.range.section_name, function.range.start),
        number(_words(counts)),
        Cell("", graph),
        Cell("", sites + refused),
    )


def _line(text: str) -> Line:
    return Line((Cell(text),))


def _section(title: str) -> Iterator[Block]:
    yield GAP
    yield Line((Cell(title, style=Style.HEADING),))


def _mark_cell(mark: Mark) -> Cell:
    return Cell("", str(mark), MARKS[mark][0])


def _refused(refused: Sequence[Site]) -> Iterator[Block]:
    """The sites by their codes, and for each code what to do."""
    code_of = attrgetter("code")
    for code, sites in groupby(sorted(refused, key=code_of), code_of):
        for site in sites:
            lead = Cell(f"! {code}", style=Style.REFUSED)
            yield Paragraph(f"{site.place}: {site.detail}", hanging=4, lead=lead)
        if advice := hint(code):
            yield Paragraph(f"hint: {advice}", indent=2, hanging=2)


def _summary(diff: ObjectDiff, shown: Filter) -> Iterator[Block]:
    yield _line(_total([diff]))
    if shown.active:
        yield note_shown(len(shown.code(diff.functions)), len(diff.functions), "function")
        return
    titles = partial(heading, style=Style.QUIET)
    if diff.sections:
        yield from _section("Sections")
        totals = diff.by_section
        rows = [
            titles("", "functions", "size", "bytes changed", "fields"),
            *(
                _section_cells(section, totals.get(section.name, Totals()))
                for section in diff.sections
            ),
        ]
        if not any(section.fields for section in diff.sections):
            rows = [row[:-1] for row in rows]
        yield Table(rows, limit=_MANY + 1)
    if diff.header:
        yield GAP
        yield Line(
            (Cell("ELF header", style=Style.HEADING), Cell(f"  {changed_fields(diff.header)}"))
        )


def _section_cells(section: SectionDiff, total: Totals) -> tuple[Cell, ...]:
    return (
        Cell(section.name),
        number(total.functions, zero=""),
        Cell("", _sizes(section), right=True),
        number(section.changed_bytes, zero=""),
        Cell("", changed_fields(section.fields)),
    )


def _sizes(section: SectionDiff) -> str:
    before, after = section.size_before, section.size_after
    if before is None:
        return f"added, {after:,}"
    if after is None:
        return f"removed, {before:,}"
    return f"{after:,}" if before == after else f"{before:,} -> {after:,}"


def _total(diffs: Sequence[ObjectDiff]) -> str:
    """`3 functions: 6 words changed, 4 added, 0 removed; 3 call sites; 5 sections, 2 symbols`"""
    total = Totals.of(function for diff in diffs for function in diff.functions)
    sections = sum(len(diff.sections) for diff in diffs)
    symbols = sum(len(diff.symbols) for diff in diffs)
    parts = [
        f"{count(total.functions, 'function')}: {count(total.changed, 'word')} changed, "
        f"{total.added:,} added, {total.removed:,} removed"
    ]
    if total.sites:
        refused = f", {total.refused:,} refused" if total.refused else ""
        parts.append(count(total.sites, "call site") + refused)
    parts.append(f"{count(sections, 'section')}, {count(symbols, 'symbol')}")
    return "; ".join(parts)
