"""The report as one HTML page that needs nothing else: no network, no other file.

Its style and its script are page.css and page.js. A policy (CSP) lets the browser run and load
nothing but those two, so that a name from an object never becomes code. All text is ASCII: the page
is the same in any locale. Without the script the page is whole, and only has no filters.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from typing import Final, TextIO

from scpatch import __version__
from scpatch.report.blocks import (
    Block,
    Cell,
    Finding,
    Level,
    Line,
    Listing,
    Paragraph,
    Report,
    Row,
    Style,
    Table,
    Title,
    every_finding,
)
from scpatch.report.html_listing import draw_legend, draw_listing
from scpatch.report.html_listing import html_text as text
from scpatch.report.look import Look
from scpatch.report.rules import every_rule
from scpatch.report.words import count

_CLASSES: Final = {
    Style.HEADING: "head",
    Style.QUIET: "dim",
    Style.OLD: "old",
    Style.NEW: "new",
    Style.CHANGED: "changed",
    Style.REFUSED: "bad",
}

_KEYS: Final = {
    **{name: name for name in ("state", "function", "trampoline")},
    "result": "state",
    "place": "section",
}
"""Name of a column -> what the filters call it."""

_SUMMED: Final = 5
"""How many files the head of the page sums up, one by one."""

_OPEN: Final = 20
"""How many functions are unfolded at first."""

_FILTERS: Final = """<form id="filters" role="search" aria-label="Filters" hidden><div>
<label class="wide">Search (press /)<input type="search" name="search" autocomplete="off"></label>
<label>State<select name="state"><option value="">all</option></select></label>
<label>Section<select name="section"><option value="">all</option></select></label>
<label>Trampoline<select name="trampoline"><option value="">all</option></select></label>
<label>Function<input type="search" name="function" autocomplete="off"></label>
<button type="reset">Show all</button>
<span id="folding"><button type="button" id="expand">Unfold</button>
<button type="button" id="collapse">Fold</button></span>
<output id="shown" aria-live="polite"></output>
</div></form>"""


def write(report: Report, stream: TextIO, _look: Look) -> None:
    for part in _page(report):
        stream.write(part.encode("ascii", "xmlcharrefreplace").decode() + "\n")


def _page(report: Report) -> Iterator[str]:
    folder = files(__package__)
    style, script = ((folder / f"page.{kind}").read_text("ascii") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"scpatch {report.command}"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>"
    yield f"<header>\n<h1>{title}</h1>"
    findings = list(every_finding(report))
    yield from _summary(findings)
    yield f"</header>\n{_FILTERS}\n<main>"
    yield from _attention([finding for finding in findings if finding.level is Level.ERROR])
    yield from _body(report.blocks())
    yield f"<footer>scpatch {__version__}</footer>\n</main>\n<script>{script}</script>"
    yield "</body>\n</html>"


def _hash(text: str) -> str:
    """The source expression that allows the text of an element (Content Security Policy 3)."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _summary(findings: Sequence[Finding]) -> Iterator[str]:
    """How many errors and warnings there are, and the notes, each of which sums up a file. Of many
    files the body begins with the total."""
    levels = Counter(finding.level for finding in findings)
    if levels[Level.ERROR] or levels[Level.WARNING]:
        yield '<ul class="tally">'
        for level in (Level.ERROR, Level.WARNING):
            if levels[level]:
                number, _, noun = count(levels[level], level).partition(" ")
                yield f'<li class="{level}"><b>{number}</b> {noun}</li>'
        yield "</ul>"
    elif not levels:
        yield "<p>No errors, no warnings.</p>"
    notes = [finding for finding in findings if finding.level is Level.NOTE]
    for finding in notes if len(notes) <= _SUMMED else ():
        yield f'<p class="line"><code>{text(finding.file)}</code>: {text(finding.message)}</p>'


def _attention(errors: Sequence[Finding]) -> Iterator[str]:
    """The errors by their kinds, and for each kind what to do."""
    if not errors:
        return
    rules = every_rule(errors)
    by_title = attrgetter("title")
    yield f'<section id="attention">\n<h2>{count(len(errors), "error")}</h2>'
    for title, group in groupby(sorted(errors, key=by_title), by_title):
        members = list(group)
        about = rules[title].title
        yield f"<h3>{text(title)} <small>{text(about if about != title else '')}</small></h3>"
        if hint := members[0].hint or rules[title].hint:
            yield f"<p>hint: {text(hint)}</p>"
        yield "<ul>"
        for finding in members:
            where = " ".join(filter(None, (finding.where, finding.line)))
            place = f"{text(finding.file)} {text(where)}".strip()
            yield f"<li><code>{place}</code> {text(finding.message)}</li>"
        yield "</ul>"
    yield "</section>"


def _body(blocks: Iterable[Block]) -> Iterator[str]:
    """A section for each file, so that filters can hide one of which nothing is left."""
    level, listings = 2, 0
    yield "<section>"
    for block in blocks:
        match block:
            case Title(name, about):
                level = 3
                yield f"</section>\n<section>\n<h2>{text(name)} <small>{text(about)}</small></h2>"
            case Line(cells, _) if cells and cells[0].style is Style.HEADING:
                name = text(cells[0].text + cells[0].tail)
                if level == 2:
                    yield "</section>\n<section>"
                yield f"<h{level}>{name}<small>{_cells(cells[1:])}</small></h{level}>"
            case Line(cells, _):
                if cells:
                    yield f'<p class="line">{_cells(cells)}</p>'
            case Paragraph():
                yield _paragraph(block)
            case Table():
                yield from _table(block)
            case Listing(function, first):
                if first:
                    yield draw_legend()
                yield from draw_listing(function, unfolded=listings < _OPEN)
                listings += 1
    yield "</section>"


def _paragraph(block: Paragraph) -> str:
    lead = f"{_cells([block.lead])} " if block.lead else ""
    return f"<p>{lead}{text(block.text)}</p>"


def _cells(cells: Iterable[Cell]) -> str:
    return "".join(map(_cell, cells))


def _cell(cell: Cell) -> str:
    content = text(cell.text + cell.tail)
    style = _CLASSES.get(cell.style)
    return f'<span class="{style}">{content}</span>' if style and content else content


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        return
    folded = table.limit is not None and len(table.rows) > table.limit
    if folded:
        yield f"<details>\n<summary>{count(len(table.rows), 'row')}</summary>"
    # Rows of calls are what the filters show or hide.
    calls = "state" in table.columns
    start = '<table class="calls">' if calls else "<table>"
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="table">{start}'
    if table.titles:
        yield _head(table.titles)
    yield "" if calls else "<tbody>"
    for row, notes in table.body:
        if calls:
            yield '<tbody class="item">'
        yield _row(row, table.columns, calls=calls)
        for note in notes:
            content = _cells(note.cells) if isinstance(note, Line) else text(note.text)
            yield f'<tr class="note"><td colspan="{len(row)}">{content}</td></tr>'
        if calls:
            yield "</tbody>"
    yield "</table></div>" if calls else "</tbody></table></div>"
    if folded:
        yield "</details>"


def _head(row: Row) -> str:
    cells = (
        f'<th scope="col"{" class=n" if cell.right else ""}>{text(cell.text + cell.tail)}</th>'
        for cell in row
    )
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _row(row: Row, columns: Sequence[str], *, calls: bool) -> str:
    cells = []
    for at, cell in enumerate(row):
        name = columns[at] if calls else ""
        attributes = ' class="n"' if cell.right else ""
        if name:
            attributes += f' data-c="{text(name)}"'
        if key := _KEYS.get(name):
            attributes += f' data-k="{key}" data-v="{text(cell.text or cell.tail)}"'
        cells.append(f"<td{attributes}>{_cell(cell)}</td>")
    return f"<tr>{''.join(cells)}</tr>"
