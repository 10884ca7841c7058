"""Blocks as lines on a screen: as wide as it is, with colours if it has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from scpatch.report.blocks import Block, Cell, Line, Listing, Paragraph, Report, Style, Table, Title
from scpatch.report.escape import clean
from scpatch.report.terminal.columns import lay_out
from scpatch.report.terminal.screen import Screen, screen_of, wrap


def write(report: Report, stream: TextIO) -> None:
    for line in draw(report, screen_of(stream)):
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
            from scpatch.report.terminal.code import draw_function, draw_legend

            if legend:
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
    """Both in one line if there is room for them."""
    text = clean(text)
    fits = len(text) + 3 + len(about) <= screen.width
    yield screen.paint(text, Style.HEADING) + (f"   {about}" if about and fits else "")
    if about and not fits:
        yield f"  {about}"
