"""Blocks as Markdown with tables, as GitHub and GitLab draw it: for comments and job summaries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

from scpatch.report.blocks import (
    Block,
    Cell,
    Line,
    Listing,
    Paragraph,
    Report,
    Style,
    Table,
    Title,
)
from scpatch.report.forms.text import draw_block
from scpatch.report.look import Look
from scpatch.report.screen import Screen
from scpatch.report.words import clean

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
_PAGE = Screen(80, 0, whole=True)


def write(report: Report, stream: TextIO, _look: Look) -> None:
    empty = True
    for block in report.blocks():
        for line in _lines(block):
            if line or not empty:
                stream.write(f"{line}\n")
            empty = not line


def _lines(block: Block) -> Iterator[str]:
    match block:
        case Line(cells, _):
            yield from ("".join(map(_inline, cells)), "")
        case Paragraph(text, _, _, lead):
            yield from (f"{_inline(lead)} {_escaped(text)}" if lead else _escaped(text), "")
        case Title(text, about):
            yield from (f"### {_escaped(text)}", "")
            if about:
                yield from (_escaped(about), "")
        case Table():
            yield from _table(block)
        case Listing():
            code = "\n".join(draw_block(block, _PAGE)).strip("\n")
            yield from (f"```diff\n{code}\n```", "")


def _table(table: Table) -> Iterator[str]:
    """The first row of headings, if it has some, else an empty one: Markdown wants one."""
    if not table.rows:
        return
    titles = table.titles or [Cell("")] * len(table.rows[0])
    columns = zip(titles, *(row for row, _ in table.body), strict=True)
    yield _row([_escaped(cell.text + cell.tail) for cell in titles])
    yield _row(["---:" if all(cell.right for cell in column[1:]) else "---" for column in columns])
    for row, below in table.body:
        cells = [_inline(cell) for cell in row]
        notes = [line for note in below for line in _lines(note) if line]
        yield _row([*cells[:-1], "<br>".join([cells[-1], *notes])])
    yield ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _inline(cell: Cell) -> str:
    """A cell's text; a name, which has no space, as code if it has characters of Markdown's."""
    text = clean(cell.text + cell.tail)
    if _SPECIAL.search(text) and "`" not in text and " " not in text:
        return f"`{text}`".replace("|", "\\|")
    strong = cell.style in (Style.HEADING, Style.REFUSED) and text
    return f"**{_escaped(text).strip()}**" if strong else _escaped(text)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", clean(text))
