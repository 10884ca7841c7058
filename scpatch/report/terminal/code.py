"""Draws the code of a function in two versions as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from scpatch.differ.disassembly import shows
from scpatch.differ.model import FunctionDiff, Instruction, Kind, Mark, Reference, Row, Segment
from scpatch.report.blocks import Style
from scpatch.report.escape import clean
from scpatch.report.marks import STYLES
from scpatch.report.terminal.screen import Screen, shorten, wrap
from scpatch.report.words import call_sites

SIDE_BY_SIDE: Final = 100
"""Columns from which the two versions stand side by side; below, one is above the other."""

_MNEMONIC: Final = 6
_WORD: Final = 8
_GAP: Final = "  "
_MIDDLE: Final = " | "


@dataclass(frozen=True, slots=True)
class Drawing:
    """How the rows of one function are set: widths in columns."""

    offset: int
    twice: bool
    """Whether the two sides have different offsets, so that the right one shows its own."""
    text: int
    """What an instruction's text has on either side."""
    stacked: int
    """What it has where the sides are one above the other."""

    @property
    def start(self) -> int:
        """The column at which the left side's words begin."""
        return 2 + self.offset + len(_GAP)

    @property
    def side(self) -> int:
        """The width of the left side: word and text."""
        return _WORD + len(_GAP) + self.text

    @classmethod
    def of(cls, function: FunctionDiff, where: Screen) -> Drawing:
        sizes = [one.end - one.start for one in (function.before, function.after) if one]
        offset = max(4, len(f"{max(sizes):x}"))
        twice = len(sizes) == 2 and bool(function.added or function.removed)
        side = offset + len(_GAP) + _WORD + len(_GAP)
        fixed = 2 + side + len(_MIDDLE) + (side if twice else _WORD + len(_GAP))
        return cls(offset, twice, (where.width - fixed) // 2, where.width - 3 - side)


def draw_legend(function: FunctionDiff, where: Screen) -> Iterator[str]:
    """What the marks mean, and which side is which."""
    meanings = (f"{mark} {mark.meaning}" for mark in Mark if mark is not Mark.CONTEXT)
    yield where.paint("   ".join(meanings), Style.QUIET)
    if where.width >= SIDE_BY_SIDE:
        drawing = Drawing.of(function, where)
        start = " " * drawing.start
        yield where.paint(f"{start}{'before':{drawing.side}} | after", Style.QUIET)


def draw_function(function: FunctionDiff, where: Screen) -> Iterator[str]:
    """The heading of a function and its rows, `...` between hunks."""
    drawing = Drawing.of(function, where)
    draw_row = side_by_side if where.width >= SIDE_BY_SIDE else stacked
    gap = where.paint("     ...", Style.QUIET)
    yield _heading(function, where)
    end = 0
    for hunk in function.hunks():
        first, last = (row.after or row.before for row in (hunk.rows[0], hunk.rows[-1]))
        if first is not None and first.function_offset > end:
            yield gap
        for row in hunk.rows:
            yield from draw_row(row, drawing, where)
        end = last.function_offset + last.size if last is not None else end
    if end < function.range.end - function.range.start:
        yield gap


def _heading(function: FunctionDiff, where: Screen) -> str:
    code = function.range
    parts = [f"{code.section_name}+{code.start:#x}", function.line, function.note]
    if function.sites:
        parts.append(call_sites(function.sites))
    ending = "".join(f"  {clean(part)}" for part in parts if part)
    name = shorten(clean(code.name) or "(no symbol)", max(where.width - len(ending), 24))
    return where.paint(name, Style.HEADING) + ending


def side_by_side(row: Row, drawing: Drawing, where: Screen) -> Iterator[str]:
    """`~  7c  48000001  bl    __SCT__x   | 48000001  bl    r2save.__SCT__x...`"""
    first = row.before or row.after
    assert first is not None
    left = _half(row, row.before, Style.OLD, drawing.text, where)
    right = _half(row, row.after, Style.NEW, drawing.text, where)
    for index, pair in enumerate(zip_longest(left, right, fillvalue=_EMPTY)):
        shown = row.before if drawing.twice else first
        offset = f"{shown.function_offset:{drawing.offset}x}" if shown and not index else ""
        start = f"{_gutter(row, index, where)} {_quiet(offset, drawing.offset, where)}{_GAP}"
        again = ""
        if drawing.twice:
            its = f"{row.after.function_offset:{drawing.offset}x}" if row.after else ""
            again = _quiet("" if index else its, drawing.offset, where) + _GAP
        one, other = pair
        padding = " " * max(0, drawing.side - one.width)
        yield (start + one.text + padding + _MIDDLE + again + other.text).rstrip()
    yield from _note(row, drawing, where)


def stacked(row: Row, drawing: Drawing, where: Screen) -> Iterator[str]:
    """The versions one above the other, `-` and `+` beside the gutter; an unchanged row once."""
    sides = [(row.before, "-", Style.OLD), (row.after, "+", Style.NEW)]
    if row.mark in (Mark.CONTEXT, Mark.CHECKED, Mark.REFUSED):
        sides = [(row.after, " ", Style.PLAIN)]
    for one, sign, style in sides:
        if one is None:
            continue
        sign = where.paint(" " if row.mark in (Mark.ADDED, Mark.REMOVED) else sign, style)
        for index, line in enumerate(_half(row, one, style, drawing.stacked, where)):
            offset = "" if index else f"{one.function_offset:{drawing.offset}x}"
            gutter = _gutter(row, index, where) + sign
            yield f"{gutter} {_quiet(offset, drawing.offset, where)}{_GAP}{line.text}".rstrip()
    yield from _note(row, drawing, where)


def _quiet(text: str, width: int, where: Screen) -> str:
    return where.paint(f"{text:{width}}", Style.QUIET) if text else " " * width


def _gutter(row: Row, index: int, where: Screen) -> str:
    """The mark; on the lines of a row's relocations only where those differ beside the word."""
    mark = row.mark
    if index:
        differs = row.relocations_differ and mark is Mark.WORD
        mark = Mark.RELOCATION if differs else Mark.CONTEXT
    return where.paint(str(mark), STYLES[mark])


def _note(row: Row, drawing: Drawing, where: Screen) -> Iterator[str]:
    if row.note and row.mark is not Mark.CHECKED:
        indent = " " * (drawing.offset + 1 + len(_GAP))
        for line in wrap(clean(row.note), where.width - len(indent) - 1, hanging=2):
            yield f"{where.paint('!', Style.REFUSED)}{indent}{line}"


@dataclass(frozen=True, slots=True)
class _Line:
    """Text as it is printed, and its width without escape sequences."""

    text: str
    width: int


_EMPTY: Final = _Line("", 0)


def _half(
    row: Row, one: Instruction | None, style: Style, width: int, where: Screen
) -> list[_Line]:
    """One side of a row: the word and its text, then a line for each relocation to be shown."""
    if one is None:
        return []
    other = row.after if one is row.before else row.before
    if row.mark in (Mark.CONTEXT, Mark.CHECKED, Mark.REFUSED):
        other = one
    word = one.digits.ljust(_WORD)
    differs = other is None or (other.word, other.size) != (one.word, one.size)
    segments = _fit(one.text, width)
    theirs = _fit(other.text, width) if other is not None else ()
    texts = [
        where.paint(text, Style.PLAIN if text == found else style)
        for text, found in zip_longest(segments, theirs[: len(segments)], fillvalue="")
    ]
    plain = "".join(segments)
    painted = where.paint(word, style if differs else Style.PLAIN)
    lines = [_Line(painted + _GAP + "".join(texts), _WORD + len(_GAP) + len(plain))]
    for reference in one.relocations:
        paired = row.before is not None and row.after is not None
        if (paired and row.relocations_differ) or not shows(one.text, reference):
            lines.append(_reference(reference, other, style, width, where))
    return lines


def _fit(text: Sequence[Segment], width: int) -> tuple[str, ...]:
    """The segments' texts, symbols shortened so that all of them take at most `width` columns."""
    shown: list[str] = []
    fixed = sum(len(segment.text) for segment in text[1:] if segment.kind is not Kind.SYMBOL)
    for index, segment in enumerate(text):
        if index == 0:
            mnemonic = segment.text.ljust(_MNEMONIC - 1) + " " * (len(text) > 1)
            shown.append(mnemonic)
            fixed += len(mnemonic)
        elif segment.kind is Kind.SYMBOL:
            shown.append(_short_symbol(clean(segment.text), max(width - fixed, 12)))
        else:
            shown.append(segment.text)
    return tuple(shown)


def _short_symbol(text: str, width: int) -> str:
    """A symbol's name shortened in the middle; an offset or `@toc@ha` behind it stays whole."""
    end = min((at for at in (text.find("@"), text.rfind("+0x")) if at > 0), default=len(text))
    return shorten(text[:end], max(width - len(text) + end, 8)) + text[end:]


def _reference(
    reference: Reference, other: Instruction | None, style: Style, width: int, where: Screen
) -> _Line:
    kind = reference.kind.ljust(_WORD + len(_GAP))
    symbol = _short_symbol(clean(reference.target), max(width - max(len(kind) - _WORD - 2, 0), 12))
    text = kind + symbol if len(kind) > _WORD + 1 and kind.endswith(" ") else f"{kind} {symbol}"
    same = other is not None and reference in other.relocations
    return _Line(where.paint(text, Style.PLAIN if same else style), len(text))
