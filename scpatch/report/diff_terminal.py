"""The diff report for people: before and after side by side, or one above the other where the
screen has fewer than 100 columns."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from scpatch.differ.model import FunctionDiff, Mark, ObjectDiff, RefusedSite, SymbolDiff
from scpatch.ppc64.reloc_names import name as relocation_name
from scpatch.report.columns import Cell, lay_out
from scpatch.report.diff_draw import Drawing, side_by_side, stacked
from scpatch.report.diff_summary import summary
from scpatch.report.term import Screen, Style, clean, count, screen, shorten, wrap

SIDE_BY_SIDE: Final = 100
_MANY: Final = 20
"""How many symbols or relocations of data are shown; the other forms have them all."""


def print_terminal(diffs: Sequence[tuple[str, str, ObjectDiff]]) -> None:
    where = screen(sys.stdout)
    for index, (before, after, diff) in enumerate(diffs):
        if index:
            sys.stdout.write("\n")
        for line in report(clean(before), clean(after), diff, where):
            sys.stdout.write(line + "\n")


def report(before: str, after: str, diff: ObjectDiff, where: Screen) -> Iterator[str]:
    """The lines of the report."""
    yield from _heading(before, after, diff, where)
    if diff.same:
        yield "no difference"
        return
    if diff.only_layout:
        yield "the same contents: only file offsets or padding between sections differ"
    if diff.functions:
        yield from _legend(Drawing.of(diff.functions[0], where), where)
    for function in diff.functions:
        yield ""
        yield from function_lines(function, where)
    yield from _symbols(diff.symbols, where)
    yield from _references(diff, where)
    yield from _refused(diff.refused, where)
    yield from summary(diff, where)


def _heading(before: str, after: str, diff: ObjectDiff, where: Screen) -> Iterator[str]:
    names = f"{before} -> {after}"
    strategy = f"   strategy {diff.strategy}" if diff.strategy else ""
    about = diff.kind + strategy
    yield where.paint(names, Style.HEADING) + (
        f"   {about}" if about and len(names) + 3 + len(about) <= where.width else ""
    )
    if about and len(names) + 3 + len(about) > where.width:
        yield f"  {about}"


def _legend(drawing: Drawing, where: Screen) -> Iterator[str]:
    """What the marks mean, and which side is which."""
    marks = (
        (Mark.RELOCATION, "relocation"),
        (Mark.WORD, "word"),
        (Mark.ADDED, "added"),
        (Mark.REMOVED, "removed"),
        (Mark.REFUSED, "refused"),
        (Mark.CHECKED, "checked, unchanged"),
    )
    yield where.paint("   ".join(f"{mark} {meaning}" for mark, meaning in marks), Style.QUIET)
    if where.width >= SIDE_BY_SIDE:
        start = " " * (drawing.start - len("  "))
        yield where.paint(f"  {start}{'before':{drawing.side}} | after", Style.QUIET)


def function_lines(function: FunctionDiff, where: Screen) -> Iterator[str]:
    """The heading of a function and its rows, `...` between hunks."""
    one = function.range
    drawing = Drawing.of(function, where)
    yield _function_heading(function, where)
    draw = side_by_side if where.width >= SIDE_BY_SIDE else stacked
    place = 0
    for hunk in function.hunks():
        first = hunk.rows[0].after or hunk.rows[0].before
        if first is not None and first.function_offset > place:
            yield where.paint("     ...", Style.QUIET)
        for row in hunk.rows:
            yield from draw(row, drawing, where)
        last = hunk.rows[-1].after or hunk.rows[-1].before
        place = last.function_offset + last.size if last is not None else place
    if place < one.end - one.start:
        yield where.paint("     ...", Style.QUIET)


def _function_heading(function: FunctionDiff, where: Screen) -> str:
    one = function.range
    place = f"{clean(one.section_name)}+{one.start:#x}"
    rest = [place, clean(function.line), clean(function.note)]
    if function.sites:
        rest.append(count(function.sites, "call site"))
    ending = "".join(f"  {part}" for part in rest if part)
    name = shorten(clean(one.name) or "(no symbol)", max(where.width - len(ending), 24))
    return where.paint(name, Style.HEADING) + ending


def _symbols(symbols: Sequence[SymbolDiff], where: Screen) -> Iterator[str]:
    if not symbols:
        return
    yield ""
    yield where.paint("Symbols", Style.HEADING)
    rows = [
        (
            Cell("", str(one.mark), _STYLES[one.mark]),
            Cell(clean(one.name) or "(no name)"),
            Cell("", clean(_changes(one))),
        )
        for one in symbols[:_MANY]
    ]
    yield from lay_out(rows, where)
    yield from _more(len(symbols))


def _changes(one: SymbolDiff) -> str:
    if not one.fields:
        return one.what
    return ", ".join(f"{f.name} {f.before or '-'} -> {f.after or '-'}" for f in one.fields)


_STYLES: Final = {
    Mark.ADDED: Style.NEW,
    Mark.REMOVED: Style.OLD,
    Mark.WORD: Style.CHANGED,
}


def _references(diff: ObjectDiff, where: Screen) -> Iterator[str]:
    """Relocations of data."""
    for section in diff.sections:
        found = section.references
        if found is None:
            continue
        yield ""
        yield where.paint(f"Relocations in {clean(section.name)}", Style.HEADING)
        both = [
            *((one, Mark.REMOVED) for one in found.removed),
            *((one, Mark.ADDED) for one in found.added),
        ]
        both.sort(key=lambda pair: pair[0].at)
        rows = [
            (
                Cell("", str(mark), _STYLES[mark]),
                Cell("", f"{one.at:#x}"),
                Cell("", relocation_name(one.type)),
                Cell(clean(one.symbol), clean(one.target)[len(clean(one.symbol)) :]),
            )
            for one, mark in islice(both, _MANY)
        ]
        yield from lay_out(rows, where)
        yield from _more(len(both))


def _more(total: int) -> Iterator[str]:
    if total > _MANY:
        yield f"  ... and {total - _MANY:,} more (--format plain shows all)"


def _refused(refused: Sequence[RefusedSite], where: Screen) -> Iterator[str]:
    if not refused:
        return
    from scpatch.diagnostics import hint

    yield ""
    yield where.paint("Refused", Style.HEADING)
    for code in sorted({site.code for site in refused}):
        for site in refused:
            if site.code == code:
                mark = where.paint(f"! {code}", Style.REFUSED)
                text = f"{clean(site.place)}: {clean(site.detail)}"
                first, *rest = wrap(text, where.width - 9, "  ")
                yield f"{mark} {first}"
                yield from (f"  {line}" for line in rest)
        if advice := hint(code):
            yield from (f"  {line}" for line in wrap(f"hint: {advice}", where.width - 2, "  "))
