"""Tables of text. Columns are as wide as their contents; what does not fit is shortened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scpatch.report.blocks import Cell, Row
from scpatch.report.escape import clean
from scpatch.report.terminal.screen import Screen, shorten

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
    widths = _fit(natural, fixed, room)
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
