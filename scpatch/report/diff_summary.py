"""The end of the diff report: what changed by function and by section, and the totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from scpatch.differ.model import FunctionDiff, ObjectDiff, SectionDiff
from scpatch.report.columns import Cell, lay_out
from scpatch.report.term import Screen, Style, clean, count

_MANY: Final = 20


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over functions: words of code, and call sites."""

    functions: int
    changed: int
    added: int
    removed: int
    sites: int
    refused: int

    @classmethod
    def of(cls, functions: Sequence[FunctionDiff]) -> Totals:
        return cls(
            sum(one.differs for one in functions),
            sum(one.changed for one in functions),
            sum(one.added for one in functions),
            sum(one.removed for one in functions),
            sum(one.sites for one in functions),
            sum(one.refused for one in functions),
        )


def by_section(diff: ObjectDiff) -> dict[str, Totals]:
    """Section name -> totals of its functions, in the order of the second object."""
    found: dict[str, list[FunctionDiff]] = {}
    for function in diff.functions:
        found.setdefault(function.range.section_name, []).append(function)
    return {name: Totals.of(functions) for name, functions in found.items()}


def summary(diff: ObjectDiff, where: Screen) -> Iterator[str]:
    """The lines of the summary."""
    if diff.functions:
        yield ""
        yield where.paint("Functions", Style.HEADING)
        yield from _functions(diff.functions, where)
    if diff.sections:
        yield ""
        yield where.paint("Sections", Style.HEADING)
        yield from _sections(diff, where)
    if diff.header:
        yield ""
        changes = ", ".join(f"{one.name} {one.before} -> {one.after}" for one in diff.header)
        yield f"{where.paint('ELF header', Style.HEADING)}  {changes}"
    yield ""
    yield total_line(diff)


def total_line(diff: ObjectDiff) -> str:
    """`3 functions: 6 words changed, 4 added, 0 removed; 3 call sites; 5 sections, 2 symbols`"""
    total = Totals.of(diff.functions)
    parts = [
        f"{count(total.functions, 'function')}: {count(total.changed, 'word')} changed, "
        f"{total.added:,} added, {total.removed:,} removed",
    ]
    if total.sites:
        refused = f", {total.refused:,} refused" if total.refused else ""
        parts.append(count(total.sites, "call site") + refused)
    parts.append(f"{count(len(diff.sections), 'section')}, {count(len(diff.symbols), 'symbol')}")
    return "; ".join(parts)


def _titles(*names: str) -> tuple[Cell, ...]:
    return tuple(Cell("", name, Style.QUIET, right=i > 0) for i, name in enumerate(names))


def _number(value: int) -> Cell:
    return Cell("", f"{value:,}" if value else "", right=True)


def _functions(functions: Sequence[FunctionDiff], where: Screen) -> Iterator[str]:
    rows = [(Cell(""), *_titles("place", "changed", "added", "removed", "sites", "refused"))]
    for one in functions[:_MANY]:
        place = Cell(clean(one.range.section_name), f"+{one.range.start:#x}")
        numbers = (one.changed, one.added, one.removed, one.sites, one.refused)
        rows.append((Cell(clean(one.range.name)), place, *map(_number, numbers)))
    yield from lay_out(rows, where, "  ")
    if len(functions) > _MANY:
        yield f"  ... and {len(functions) - _MANY:,} more (--format plain shows all)"


def _sections(diff: ObjectDiff, where: Screen) -> Iterator[str]:
    totals = by_section(diff)
    rows = [_titles("", "functions", "size", "bytes changed", "fields")]
    for one in diff.sections:
        functions = totals[one.name].functions if one.name in totals else 0
        rows.append(
            (
                Cell(clean(one.name)),
                _number(functions),
                Cell("", _sizes(one), right=True),
                _number(one.changed_bytes),
                Cell("", ", ".join(f"{f.name} {f.before} -> {f.after}" for f in one.fields)),
            )
        )
    shown = rows[: _MANY + 1]
    if not any(one.fields for one in diff.sections):
        shown = [row[:-1] for row in shown]
    yield from lay_out(shown, where, "  ")
    if len(rows) > len(shown):
        yield f"  ... and {len(rows) - len(shown):,} more (--format plain shows all)"


def _sizes(one: SectionDiff) -> str:
    if one.size_before is None or one.size_after is None:
        return (
            f"added, {one.size_after:,}" if one.before is None else f"removed, {one.size_before:,}"
        )
    if one.size_before == one.size_after:
        return f"{one.size_after:,}"
    return f"{one.size_before:,} -> {one.size_after:,}"
