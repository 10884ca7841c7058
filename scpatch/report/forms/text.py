"""Blocks as lines on a screen: as wide as it is, with colours if it has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from scpatch.report.blocks import (
    Block,
    Cell,
    Line,
    Listing,
    Paragraph,
    Report,
    Row,
    Style,
    Table,
    Title,
)
from scpatch.report.look import Look
from scpatch.report.screen import Screen, screen_of, shorten, wrap
from scpatch.report.words import clean


def write(report: Report, stream: TextIO, look: Look) -> None:
    for line in draw(report, screen_of(stream, look=look)):
        stream.write(line + "\n")


def draw(report: Report, screen: Screen) -> Iterator[str]:
    """The lines of a report."""
    for block in report.blocks():
        yield from draw_block(block, screen)


def draw_block(block: Block, screen: Screen) -> Iterator[str]:
    match block:
        case Line(cells, indent):
            yield " " * indent + "".join(_paint(cell, screen) for cell in cells)
        case Paragraph():
            yield from _paragraph(block, screen)
        case Table():
            yield from _table(block, screen)
        case Title(text, about):
            yield from _title(text, about, screen)
        case Listing(function, legend):
            from scpatch.report.listing import draw_function, draw_legend

            if legend:
                yield ""
                yield from draw_legend(function, screen)
            yield ""
            yield from draw_function(function, screen)


def _paint(cell: Cell, screen: Screen) -> str:
    return screen.paint(clean(cell.text + cell.tail), cell.style)


def _paragraph(block: Paragraph, screen: Screen) -> Iterator[str]:
    start = f"{_paint(block.lead, screen)} " if block.lead else ""
    lead = block.lead.width + 1 if block.lead else 0
    for line in wrap(clean(block.text), screen.width - block.indent, block.hanging, lead):
        yield " " * block.indent + start + line
        start = ""


def _table(table: Table, screen: Screen) -> Iterator[str]:
    shown = table.rows[: table.limit]
    for index, line in enumerate(lay_out(shown, screen, " " * table.indent)):
        yield line
        for note in table.notes.get(index, ()):
            yield from draw_block(note, screen)
    if left := len(table.rows) - len(shown):
        yield f"  ... and {left:,} more (--format plain shows all)"


def _title(text: str, about: str, screen: Screen) -> Iterator[str]:
    """Both in the same line if there is room."""
    text = clean(text)
    fits = len(text) + 3 + len(about) <= screen.width
    yield screen.paint(text, Style.HEADING) + (f"   {about}" if about and fits else "")
    if about and not fits:
        yield f"  {about}"


_GAP = "  "
_NARROWEST = 10


def lay_out(rows: Sequence[Row], screen: Screen, indent: str = "") -> Iterator[str]:
    """The rows as lines. They fit on the screen if what must stay whole leaves room.

    All rows have the same number of cells.
    """
    if not rows:
        return
    rows = [[_clean(cell) for cell in row] for row in rows]
    natural = [max(cell.width for cell in column) for column in zip(*rows, strict=True)]
    fixed = [max(len(cell.tail) for cell in column) for column in zip(*rows, strict=True)]
    room = screen.width - len(indent) - len(_GAP) * (len(natural) - 1)
    widths = natural if screen.whole else _fit(natural, fixed, room)
    for row in rows:
        cells = [_draw(cell, width, screen) for cell, width in zip(row, widths, strict=True)]
        yield (indent + _GAP.join(cells)).rstrip()


def _clean(cell: Cell) -> Cell:
    return cell._replace(text=clean(cell.text), tail=clean(cell.tail))


def _fit(natural: Sequence[int], fixed: Sequence[int], room: int) -> list[int]:
    """The widths of columns: the widest shrink first, and none below what must stay whole."""
    least = [
        min(width, max(_NARROWEST, tail + _NARROWEST)) if tail < width else width
        for width, tail in zip(natural, fixed, strict=True)
    ]
    cap = max(natural, default=0)
    while cap > 0:
        widths = [max(low, min(width, cap)) for width, low in zip(natural, least, strict=True)]
        if sum(widths) <= room or widths == least:
            return widths
        cap -= 1
    return list(least)


def _draw(cell: Cell, width: int, screen: Screen) -> str:
    text = shorten(cell.text, max(width - len(cell.tail), 1 if cell.text else 0)) + cell.tail
    padding = " " * (width - len(text))
    painted = screen.paint(text, cell.style)
    return padding + painted if cell.right else painted + padding
