"""Finds what belongs together in two sequences, in nearly linear time.

Elements that occur once on either side are anchors (patience diff); between two anchors small
stretches go through difflib, whose quadratic cost does not matter there. A long stretch without any
anchor is taken as replaced whole: a listing of a wholly different function is not worth minutes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import Final, NamedTuple

_SMALL: Final = 1 << 16
"""Stretches up to this product of lengths go through difflib."""


class Span(NamedTuple):
    """before[i1:i2] became after[j1:j2]; `equal` if they are the same."""

    equal: bool
    i1: int
    i2: int
    j1: int
    j2: int

    @property
    def even(self) -> bool:
        """Whether the elements of both sides belong together in pairs. If not, those before were
        removed and those after were added."""
        return self.i2 - self.i1 == self.j2 - self.j1

    @property
    def pairs(self) -> Iterator[tuple[int | None, int | None, bool]]:
        """(index before, index after, whether they are the same) of each row."""
        before, after = range(self.i1, self.i2), range(self.j1, self.j2)
        if self.even:
            yield from ((i, j, self.equal) for i, j in zip(before, after, strict=True))
        else:
            yield from ((i, None, False) for i in before)
            yield from ((None, j, False) for j in after)


def align(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[Span]:
    """Spans that cover both sequences, in order; neighbours are never both equal.

    If nothing is gained by shifting one side against the other, elements at the same index belong
    together, and the rest of the longer side was appended. So a word that was overwritten stands
    beside the one that took its place.
    """
    length = min(len(before), len(after))
    in_place = list(_in_place(before, after, length))
    if len(before) != len(after):
        in_place.append(Span(False, length, len(before), length, len(after)))
    shifted = list(_join(_patience(before, after, Span(False, 0, len(before), 0, len(after)))))
    return in_place if _equal(in_place) >= _equal(shifted) else shifted


def _equal(spans: Sequence[Span]) -> int:
    """How many elements have an equal partner."""
    return sum(span.i2 - span.i1 for span in spans if span.equal)


def _in_place(before: Sequence[Hashable], after: Sequence[Hashable], length: int) -> Iterator[Span]:
    """The spans of the first `length` elements if nothing was inserted or deleted."""
    for equal, indices in groupby(range(length), lambda index: before[index] == after[index]):
        stretch = list(indices)
        start, end = stretch[0], stretch[-1] + 1
        yield Span(equal, start, end, start, end)


def _patience(
    before: Sequence[Hashable], after: Sequence[Hashable], stretch: Span
) -> Iterator[Span]:
    _, i1, i2, j1, j2 = stretch
    start, end = (i1, j1), (i2, j2)
    while i1 < i2 and j1 < j2 and before[i1] == after[j1]:
        i1, j1 = i1 + 1, j1 + 1
    while i1 < i2 and j1 < j2 and before[i2 - 1] == after[j2 - 1]:
        i2, j2 = i2 - 1, j2 - 1
    if start[0] < i1:
        yield Span(True, start[0], i1, start[1], j1)
    yield from _between(before, after, Span(False, i1, i2, j1, j2))
    if i2 < end[0]:
        yield Span(True, i2, end[0], j2, end[1])


def _between(
    before: Sequence[Hashable], after: Sequence[Hashable], stretch: Span
) -> Iterator[Span]:
    """A stretch whose ends differ."""
    _, i1, i2, j1, j2 = stretch
    if i1 == i2 and j1 == j2:
        return
    if i1 < i2 and j1 < j2 and (i2 - i1) * (j2 - j1) <= _SMALL:
        matcher = SequenceMatcher(None, before[i1:i2], after[j1:j2], autojunk=False)
        for tag, a1, a2, b1, b2 in matcher.get_opcodes():
            yield Span(tag == "equal", i1 + a1, i1 + a2, j1 + b1, j1 + b2)
        return
    anchors = _anchors(before, after, stretch)
    if not anchors:
        yield stretch
        return
    for i, j in [*anchors, (i2, j2)]:
        yield from _patience(before, after, Span(False, i1, i, j1, j))
        i1, j1 = i, j


def _anchors(
    before: Sequence[Hashable], after: Sequence[Hashable], stretch: Span
) -> list[tuple[int, int]]:
    """The longest rising sequence of pairs of elements that occur once on either side."""
    partners = _once(after, stretch.j1, stretch.j2)
    pairs = [
        (i, partners[element])
        for element, i in _once(before, stretch.i1, stretch.i2).items()
        if element in partners
    ]
    tops: list[int] = []
    piles: list[int] = []
    previous: list[int] = []
    for number, (_, j) in enumerate(pairs):
        pile = bisect_left(tops, j)
        tops[pile : pile + 1] = [j]
        piles[pile : pile + 1] = [number]
        previous.append(piles[pile - 1] if pile else -1)
    anchors: list[tuple[int, int]] = []
    number = piles[-1] if piles else -1
    while number >= 0:
        anchors.append(pairs[number])
        number = previous[number]
    return anchors[::-1]


def _once(elements: Sequence[Hashable], start: int, end: int) -> dict[Hashable, int]:
    """The elements that occur once between two indices, and where, in order."""
    part = elements[start:end]
    counts = Counter(part)
    return {element: at for at, element in enumerate(part, start) if counts[element] == 1}


def _join(spans: Iterator[Span]) -> Iterator[Span]:
    """The same spans with equal neighbours joined."""
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
