"""Draws the code of a function in two versions as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, NamedTuple

from scpatch.differ.disassembly import shows
from scpatch.differ.model import (
    CodeRow,
    FunctionDiff,
    Instruction,
    Mark,
    NamedRelocation,
    Role,
    Token,
)
from scpatch.report.blocks import Style
from scpatch.report.screen import Screen, shorten, wrap
from scpatch.report.words import call_sites, clean, place

MARKS: Final = {
    Mark.CONTEXT: (Style.PLAIN, ""),
    Mark.RELOCATION: (Style.CHANGED, "relocation"),
    Mark.WORD: (Style.CHANGED, "word"),
    Mark.ADDED: (Style.NEW, "added"),
    Mark.REMOVED: (Style.OLD, "removed"),
    Mark.REFUSED: (Style.REFUSED, "refused"),
    Mark.CHECKED: (Style.QUIET, "checked, unchanged"),
}
"""The style of each mark, and what the legend says of it."""

SIDE_BY_SIDE: Final = 100
"""Columns from which the two versions stand side by side; below, one is above the other. So it is
if names are whole: two columns would be too wide."""

_UNLIMITED: Final = 1 << 20
"""A width that no name has."""

_MNEMONIC: Final = 6
_WORD: Final = 8
_GAP: Final = "  "
_MIDDLE: Final = " | "


@dataclass(frozen=True, slots=True)
class Drawing:
    """How the rows of one function are drawn: widths in columns."""

    offset: int
    twice: bool
    """Whether the sides have different offsets, so that the right side shows offsets too."""
    text: int
    """Width of an instruction's text, side by side."""
    stacked: int
    """Its width if one side is above the other."""

    @property
    def start(self) -> int:
        """The column at which the left side's words begin."""
        return 2 + self.offset + len(_GAP)

    @property
    def side(self) -> int:
        """The width of the left side: word and text."""
        return _WORD + len(_GAP) + self.text

    @classmethod
    def of(cls, function: FunctionDiff, screen: Screen) -> Drawing:
        sizes = [code.size for code in (function.before, function.after) if code]
        offset = max(4, len(f"{max(sizes):x}"))
        counts = function.counts
        twice = len(sizes) == 2 and bool(counts.added or counts.removed)
        side = offset + len(_GAP) + _WORD + len(_GAP)
        fixed = 2 + side + len(_MIDDLE) + (side if twice else _WORD + len(_GAP))
        stacked = _UNLIMITED if screen.whole else screen.width - 3 - side
        return cls(offset, twice, (screen.width - fixed) // 2, stacked)


def _has_two_sides(screen: Screen) -> bool:
    return screen.width >= SIDE_BY_SIDE and not screen.whole


def draw_legend(function: FunctionDiff, screen: Screen) -> Iterator[str]:
    """What the marks mean, and which side is which."""
    meanings = (f"{mark} {meaning}" for mark, (_, meaning) in MARKS.items() if meaning)
    yield screen.paint("   ".join(meanings), Style.QUIET)
    if _has_two_sides(screen):
        drawing = Drawing.of(function, screen)
        start = " " * drawing.start
        yield screen.paint(f"{start}{'before':{drawing.side}} | after", Style.QUIET)


def draw_function(function: FunctionDiff, screen: Screen) -> Iterator[str]:
    """The heading of a function and its rows, `...` between hunks."""
    drawing = Drawing.of(function, screen)
    draw_row = _side_by_side if _has_two_sides(screen) else _stacked
    gap = screen.paint("     ...", Style.QUIET)
    yield _heading(function, screen)
    end = 0
    for hunk in function.hunks():
        first, last = (row.after or row.before for row in (hunk[0], hunk[-1]))
        if first is not None and first.function_offset > end:
            yield gap
        for row in hunk:
            yield from draw_row(row, drawing, screen)
        end = last.function_offset + last.size if last is not None else end
    if end < function.range.size:
        yield gap


def _heading(function: FunctionDiff, screen: Screen) -> str:
    code = function.range
    parts = [place(code.section_name, code.start), function.line, function.note]
    if function.counts.sites:
        parts.append(call_sites(function.counts.sites))
    ending = "".join(f"  {clean(part)}" for part in parts if part)
    width = _UNLIMITED if screen.whole else max(screen.width - len(ending), 24)
    name = shorten(clean(code.name) or "(no symbol)", width)
    return screen.paint(name, Style.HEADING) + ending


def _side_by_side(row: CodeRow, drawing: Drawing, screen: Screen) -> Iterator[str]:
    """`~  7c  48000001  bl    __SCT__x   | 48000001  bl    r2save.__SCT__x...`"""
    left = _half(row, row.before, Style.OLD, drawing.text, screen)
    right = _half(row, row.after, Style.NEW, drawing.text, screen)
    first = row.before if drawing.twice else row.before or row.after
    for index, (old, new) in enumerate(zip_longest(left, right, fillvalue=_EMPTY)):
        start = f"{_gutter(row, index, screen)} {_offset(first, index, drawing, screen)}"
        again = _offset(row.after, index, drawing, screen) if drawing.twice else ""
        padding = " " * max(0, drawing.side - old.width)
        yield (start + old.text + padding + _MIDDLE + again + new.text).rstrip()
    yield from _note(row, drawing, screen)


def _stacked(row: CodeRow, drawing: Drawing, screen: Screen) -> Iterator[str]:
    """The versions one above the other, `-` and `+` beside the gutter; an unchanged row once."""
    sides = [(row.before, "-", Style.OLD), (row.after, "+", Style.NEW)]
    if row.mark in _UNCHANGED:
        sides = [(row.after, " ", Style.PLAIN)]
    for instruction, sign, style in sides:
        sign = screen.paint(" " if row.mark in (Mark.ADDED, Mark.REMOVED) else sign, style)
        half = _half(row, instruction, style, drawing.stacked, screen)
        for index, line in enumerate(half):
            offset = _offset(instruction, index, drawing, screen)
            yield f"{_gutter(row, index, screen)}{sign} {offset}{line.text}".rstrip()
    yield from _note(row, drawing, screen)


def _offset(instruction: Instruction | None, index: int, drawing: Drawing, screen: Screen) -> str:
    """The function offset, in the first of an instruction's lines."""
    if instruction is None or index:
        return " " * drawing.offset + _GAP
    text = f"{instruction.function_offset:{drawing.offset}x}"
    return screen.paint(text, Style.QUIET) + _GAP


def _gutter(row: CodeRow, index: int, screen: Screen) -> str:
    """The mark. On the lines of a row's relocations only if those differ as well as the word."""
    mark = row.mark
    if index:
        differs = row.relocations_differ and mark is Mark.WORD
        mark = Mark.RELOCATION if differs else Mark.CONTEXT
    return screen.paint(str(mark), MARKS[mark][0])


def _note(row: CodeRow, drawing: Drawing, screen: Screen) -> Iterator[str]:
    if row.note and row.mark is not Mark.CHECKED:
        indent = " " * (drawing.offset + 1 + len(_GAP))
        for line in wrap(clean(row.note), screen.width - len(indent) - 1, hanging=2):
            yield f"{screen.paint('!', Style.REFUSED)}{indent}{line}"


class _Line(NamedTuple):
    """Text as it is printed, and its width without escape sequences."""

    text: str
    width: int


_EMPTY: Final = _Line("", 0)
_UNCHANGED: Final = (Mark.CONTEXT, Mark.CHECKED, Mark.REFUSED)


def _half(
    row: CodeRow, instruction: Instruction | None, style: Style, width: int, screen: Screen
) -> list[_Line]:
    """One side of a row: the word and its text, then a line for each relocation to be shown."""
    if instruction is None:
        return []
    other = row.after if instruction is row.before else row.before
    if row.mark in _UNCHANGED:
        other = instruction
    differs = other is None or other.digits != instruction.digits
    word = screen.paint(instruction.digits.ljust(_WORD), style if differs else Style.PLAIN)
    texts = _fit(instruction.tokens, width)
    others = _fit(other.tokens, width)[: len(texts)] if other is not None else ()
    painted = (
        screen.paint(text, Style.PLAIN if text == same else style)
        for text, same in zip_longest(texts, others, fillvalue="")
    )
    taken = _WORD + len(_GAP) + sum(map(len, texts))
    lines = [_Line(word + _GAP + "".join(painted), taken)]
    for relocation in shown_relocations(row, instruction):
        same = other is not None and relocation in other.relocations
        text = _relocation(relocation, width)
        lines.append(_Line(screen.paint(text, Style.PLAIN if same else style), len(text)))
    return lines


def shown_relocations(row: CodeRow, instruction: Instruction) -> list[NamedRelocation]:
    """The relocations of one side of a row that are shown beside its text."""
    repeated = _repeats(row)
    return [
        relocation
        for relocation in instruction.relocations
        if not (repeated and shows(instruction.tokens, relocation))
    ]


def _repeats(row: CodeRow) -> bool:
    """Whether the texts of a row say what its relocations say: their kinds, which no text says, do
    not differ between the sides."""
    if row.before is None or row.after is None:
        return True
    before, after = (
        [relocation.kind for relocation in side.relocations] for side in (row.before, row.after)
    )
    return before == after


def _fit(tokens: Sequence[Token], width: int) -> tuple[str, ...]:
    """The texts of tokens, symbols shortened so that all of them fit in `width` columns."""
    mnemonic, *rest = tokens
    first = mnemonic.text.ljust(_MNEMONIC - 1) + " " * bool(rest)
    room = width - len(first) - sum(len(t.text) for t in rest if t.role is not Role.SYMBOL)
    return first, *(
        _short_symbol(clean(token.text), max(room, 12)) if token.role is Role.SYMBOL else token.text
        for token in rest
    )


def _short_symbol(text: str, width: int) -> str:
    """A symbol's name shortened in the middle; an offset or `@toc@ha` after it stays whole."""
    end = min((at for at in (text.find("@"), text.rfind("+0x")) if at > 0), default=len(text))
    return shorten(text[:end], max(width - len(text) + end, 8)) + text[end:]


def _relocation(relocation: NamedRelocation, width: int) -> str:
    kind = relocation.kind.ljust(_WORD + len(_GAP))
    room = max(width - max(len(kind) - _WORD - 2, 0), 12)
    gap = "" if len(kind) > _WORD + 1 and kind.endswith(" ") else " "
    return kind + gap + _short_symbol(clean(relocation.target), room)
