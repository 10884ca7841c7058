"""Draws the code of a function in two versions as a table of HTML: `listing` for a browser."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import zip_longest
from typing import Final

from scpatch.differ.model import CodeRow, FunctionDiff, Instruction, Mark
from scpatch.report.listing import MARKS, shown_relocations
from scpatch.report.words import call_sites, clean, place

_CLASSES: Final = {
    Mark.CONTEXT: "c",
    Mark.RELOCATION: "r",
    Mark.WORD: "w",
    Mark.ADDED: "p",
    Mark.REMOVED: "d",
    Mark.REFUSED: "x c",
    Mark.CHECKED: "c",
}
"""What page.css calls the rows. In a row of class `c` both sides are the same."""

_GAP: Final = '<tr class="gap"><td></td><td colspan="3">...</td></tr>'


def html_text(value: str) -> str:
    """Text that means nothing to HTML, without characters that a browser would obey."""
    return escape(clean(value))


def draw_legend() -> str:
    """What the marks mean."""
    meanings = (
        f"<span><b>{mark}</b> {meaning}</span>" for mark, (_, meaning) in MARKS.items() if meaning
    )
    return f'<p class="legend">{" ".join(meanings)}</p>'


def draw_listing(function: FunctionDiff, *, unfolded: bool) -> Iterator[str]:
    """The function as an element that folds."""
    code, counts = function.range, function.counts
    state = "refused" if counts.refused else "added" if function.before is None else "changed"
    state = "removed" if function.after is None else state
    values = {"state": state, "section": code.section_name, "function": code.name}
    data = "".join(f' data-{name}="{html_text(value)}"' for name, value in values.items())
    numbers = (counts.changed, counts.added, counts.removed)
    sums = [
        f"{n:,} {w}" for n, w in zip(numbers, ("changed", "added", "removed"), strict=True) if n
    ]
    parts = [
        *(place(code.section_name, code.start), function.line, function.note),
        call_sites(counts.sites) if counts.sites else "",
        ", ".join(sums),
        f"{counts.refused:,} refused" if counts.refused else "",
    ]
    about = "".join(f"<span>{html_text(part)}</span>" for part in parts if part)
    yield f'<details class="item"{data}{" open" if unfolded else ""}>'
    yield f"<summary><b>{html_text(code.name) or '(no symbol)'}</b>{about}</summary>"
    yield '<table class="code"><thead><tr><th scope="col"><span class="v">mark</span></th>'
    yield '<th scope="col"><span class="v">offset</span></th>'
    yield '<th scope="col">before</th><th scope="col">after</th></tr></thead><tbody>'
    yield from _rows(function)
    yield "</tbody></table></details>"


def _rows(function: FunctionDiff) -> Iterator[str]:
    end = 0
    for hunk in function.hunks():
        first, last = (row.after or row.before for row in (hunk[0], hunk[-1]))
        if first is not None and first.function_offset > end:
            yield _GAP
        for row in hunk:
            yield _row(row)
        end = last.function_offset + last.size if last is not None else end
    if end < function.range.size:
        yield _GAP


def _row(row: CodeRow) -> str:
    instruction = row.after or row.before
    offset = f"{instruction.function_offset:x}" if instruction else ""
    meaning = MARKS[row.mark][1]
    mark = f'{row.mark}<span class="v"> {meaning}</span>' if meaning else ""
    note = row.note if row.mark is not Mark.CHECKED else ""
    below = f'<tr class="note"><td></td><td colspan="3">! {html_text(note)}</td></tr>'
    return (
        f'<tr class="{_CLASSES[row.mark]}"><td class="m">{mark}</td><td class="o">{offset}</td>'
        f'<td class="s b">{_side(row, row.before)}</td><td class="s a">{_side(row, row.after)}</td>'
        f"</tr>{below if note else ''}"
    )


def _side(row: CodeRow, instruction: Instruction | None) -> str:
    """The word and its text, what differs from the other side marked; then relocations."""
    if instruction is None:
        return ""
    other = row.after if instruction is row.before else row.before
    mnemonic, *operands = (token.text for token in instruction.tokens)
    others = [token.text for token in other.tokens] if other else []
    words = [instruction.digits, mnemonic, *operands]
    pieces = [
        _marked(html_text(word), other is not None and word != same)
        for word, same in zip_longest(words, [other.digits if other else "", *others])
        if word is not None
    ]
    gap = " " * max(1, 7 - len(mnemonic)) if operands else ""
    drawn = f"{pieces[0]}  {pieces[1]}{gap}{''.join(pieces[2:])}"
    for relocation in shown_relocations(row, instruction):
        text = html_text(f"{relocation.kind} {relocation.target}")
        differs = other is not None and relocation not in other.relocations
        drawn += f"<i>{_marked(text, differs)}</i>"
    return drawn


def _marked(text: str, differs: object) -> str:
    return f"<b>{text}</b>" if differs else text
