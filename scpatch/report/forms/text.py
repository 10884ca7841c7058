"""Blocks as lines on a screen: as wide as it is, with colours if it has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from scpatch.report.blocks import Block, Cell, Line, Listing, Paragraph, Report, Style, Table, Title
from scpatch.report.escape import clean
from scpatch.report.terminal.columns import lay_out
from scpatch.report.terminal.screen import Screen, screen, wrap


def write(report: Report, stream: TextIO) -> None:
    for line in draw(report, screen(stream)):
        stream.write(line + "\n")


def draw(report: Report, where: Screen) -> Iterator[str]:
    """The lines of a report."""
    for block in report.blocks():
        yield from draw_block(block, where)


def draw_block(block: Block, where: Screen) -> Iterator[str]:
    match block:
        case Line(cells, indent):
            yield " " * indent + "".join(_paint(cell, where) for cell in cells)
        case Paragraph():
            yield from _paragraph(block, where)
        case Table():
            yield from _table(block, where)
        case Title(text, about):
            yield from _title(text, about, where)
        case Listing(function, legend):
            from scpatch.report.terminal.code import draw_function, draw_legend

            if legend:
                yield from draw_legend(function, where)
            yield ""
            yield from draw_function(function, where)


def _paint(cell: Cell, where: Screen) -> str:
    return where.paint(clean(cell.text + cell.tail), cell.style)


def _paragraph(block: Paragraph, where: Screen) -> Iterator[str]:
    start = f"{_paint(block.lead, where)} " if block.lead else ""
    lead = block.lead.width + 1 if block.lead else 0
    for line in wrap(clean(block.text), where.width - block.indent, block.hanging, lead):
        yield " " * block.indent + start + line
        start = ""


def _table(table: Table, where: Screen) -> Iterator[str]:
    shown = table.rows[: table.limit]
    for index, line in enumerate(lay_out(shown, where, " " * table.indent)):
        yield line
        for note in table.notes.get(index, ()):
            yield from draw_block(note, where)
    if left := len(table.rows) - len(shown):
        yield f"  ... and {left:,} more (--format plain shows all)"


def _title(text: str, about: str, where: Screen) -> Iterator[str]:
    """Both in one line if there is room for them."""
    text = clean(text)
    fits = len(text) + 3 + len(about) <= where.width
    yield where.paint(text, Style.HEADING) + (f"   {about}" if about and fits else "")
    if about and not fits:
        yield f"  {about}"
