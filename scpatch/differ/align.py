"""Finds what belongs together in two sequences, in nearly linear time.

Elements that occur once on either side are anchors (patience diff); between two anchors small
stretches go through difflib, whose quadratic cost does not matter there. A long stretch without any
anchor is taken as replaced whole: a listing of a wholly different function is not worth minutes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final, NamedTuple

_SMALL: Final = 1 << 16
"""Up to this product of lengths difflib is used."""


class Span(NamedTuple):
    """before[i1:i2] became after[j1:j2]; `equal` where they are the same.

    In a span that is not equal the elements belong together in pairs where both sides have the
    same length; else what is before was removed and what is after was added.
    """

    equal: bool
    i1: int
    i2: int
    j1: int
    j2: int


def align(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[Span]:
    """Spans that cover both sequences, in order; neighbours are never both equal.

    Where nothing is gained by shifting one side against the other, elements at the same index
    belong together, and what is longer was appended to: so a word that was overwritten stands
    beside the one that took its place.
    """
    both = min(len(before), len(after))
    found = list(_in_place(before, after, both))
    if len(before) != len(after):
        found.append(Span(False, both, len(before), both, len(after)))
    shifted = list(_join(_patience(before, after, 0, len(before), 0, len(after))))
    return found if _equal(found) >= _equal(shifted) else shifted


def _equal(spans: Sequence[Span]) -> int:
    """How many elements have an equal partner."""
    return sum(span.i2 - span.i1 for span in spans if span.equal)


def _in_place(before: Sequence[Hashable], after: Sequence[Hashable], length: int) -> Iterator[Span]:
    """The spans of the first `length` elements where nothing was inserted or deleted."""
    start = 0
    for index in range(1, length + 1):
        equal = before[start] == after[start]
        if index == length or (before[index] == after[index]) != equal:
            yield Span(equal, start, index, start, index)
            start = index


def _patience(
    before: Sequence[Hashable], after: Sequence[Hashable], i1: int, i2: int, j1: int, j2: int
) -> Iterator[Span]:
    first = _common_head(before, after, i1, i2, j1, j2)
    if first:
        yield Span(True, i1, i1 + first, j1, j1 + first)
        i1, j1 = i1 + first, j1 + first
    last = _common_tail(before, after, i1, i2, j1, j2)
    yield from _between(before, after, i1, i2 - last, j1, j2 - last)
    if last:
        yield Span(True, i2 - last, i2, j2 - last, j2)


def _common_head(
    before: Sequence[Hashable], after: Sequence[Hashable], i1: int, i2: int, j1: int, j2: int
) -> int:
    length = min(i2 - i1, j2 - j1)
    return next((n for n in range(length) if before[i1 + n] != after[j1 + n]), length)


def _common_tail(
    before: Sequence[Hashable], after: Sequence[Hashable], i1: int, i2: int, j1: int, j2: int
) -> int:
    length = min(i2 - i1, j2 - j1)
    return next((n for n in range(length) if before[i2 - 1 - n] != after[j2 - 1 - n]), length)


def _between(
    before: Sequence[Hashable], after: Sequence[Hashable], i1: int, i2: int, j1: int, j2: int
) -> Iterator[Span]:
    """A stretch whose ends differ."""
    if i1 == i2 or j1 == j2:
        if i1 < i2 or j1 < j2:
            yield Span(False, i1, i2, j1, j2)
        return
    if (i2 - i1) * (j2 - j1) <= _SMALL:
        matcher = SequenceMatcher(None, before[i1:i2], after[j1:j2], autojunk=False)
        for tag, a1, a2, b1, b2 in matcher.get_opcodes():
            yield Span(tag == "equal", i1 + a1, i1 + a2, j1 + b1, j1 + b2)
        return
    anchors = _anchors(before, after, i1, i2, j1, j2)
    if not anchors:
        yield Span(False, i1, i2, j1, j2)
        return
    for i, j in [*anchors, (i2, j2)]:
        yield from _patience(before, after, i1, i, j1, j)
        i1, j1 = i, j


def _anchors(
    before: Sequence[Hashable], after: Sequence[Hashable], i1: int, i2: int, j1: int, j2: int
) -> list[tuple[int, int]]:
    """The longest rising sequence of pairs of elements that occur once on either side."""
    ours, theirs = _once(before, i1, i2), _once(after, j1, j2)
    pairs = [(i, theirs[element]) for element, i in ours.items() if element in theirs]
    tops: list[int] = []
    piles: list[int] = []
    previous: list[int] = []
    for number, (_, j) in enumerate(pairs):
        at = bisect_left(tops, j)
        tops[at : at + 1] = [j]
        piles[at : at + 1] = [number]
        previous.append(piles[at - 1] if at else -1)
    found: list[tuple[int, int]] = []
    number = piles[-1] if piles else -1
    while number >= 0:
        found.append(pairs[number])
        number = previous[number]
    return found[::-1]


def _once(elements: Sequence[Hashable], start: int, end: int) -> dict[Hashable, int]:
    """The elements that occur once between two indices, and where; in order of place."""
    found: dict[Hashable, int] = {}
    for index in range(start, end):
        element = elements[index]
        found[element] = -1 if element in found else index
    return {element: index for element, index in found.items() if index >= 0}


def _join(spans: Iterator[Span]) -> Iterator[Span]:
    """The same spans with neighbours of one kind made one, where that keeps their meaning."""
    last: Span | None = None
    for span in spans:
        if last is not None and last.equal and span.equal:
            last = Span(True, last.i1, span.i2, last.j1, span.j2)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last
