"""Alignment of two sequences."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scpatch.differ.align import Span, align


def check(before: str | list[int], after: str | list[int]) -> list[Span]:
    """Spans cover both sides in order, and equal spans are equal."""
    spans = align(before, after)
    i = j = 0
    for span in spans:
        assert (span.i1, span.j1) == (i, j)
        i, j = span.i2, span.j2
        if span.equal:
            assert before[span.i1 : span.i2] == after[span.j1 : span.j2]
            assert span.i2 > span.i1
    assert (i, j) == (len(before), len(after))
    return spans


@given(st.lists(st.integers(0, 5), max_size=40), st.lists(st.integers(0, 5), max_size=40))
def test_any_two_sequences(before: list[int], after: list[int]) -> None:
    check(before, after)


@pytest.mark.parametrize("seed", range(20))
def test_big_sequences_with_edits(seed: int) -> None:
    rng = random.Random(seed)
    before = [rng.randrange(3000) for _ in range(2000)]
    after = list(before)
    for _ in range(30):
        at = rng.randrange(len(after))
        if rng.random() < 0.5:
            del after[at : at + rng.randrange(5)]
        else:
            after[at:at] = [rng.randrange(3000) for _ in range(rng.randrange(5))]
    spans = check(before, after)
    assert sum(span.i2 - span.i1 for span in spans if span.equal) > 1500


@pytest.mark.parametrize(
    ("before", "after", "spans"),
    [
        ("", "", []),
        ("", "ab", [(False, 0, 0, 0, 2)]),
        ("ab", "", [(False, 0, 2, 0, 0)]),
        ("abcd", "abcd", [(True, 0, 4, 0, 4)]),
        ("abcd", "abXd", [(True, 0, 2, 0, 2), (False, 2, 3, 2, 3), (True, 3, 4, 3, 4)]),
        # What was overwritten stands beside what replaced it, also where more was appended.
        (
            "abcd",
            "abXdef",
            [
                (True, 0, 2, 0, 2),
                (False, 2, 3, 2, 3),
                (True, 3, 4, 3, 4),
                (False, 4, 4, 4, 6),
            ],
        ),
        ("abcdefghij", "Xabcdefghij", [(False, 0, 0, 0, 1), (True, 0, 10, 1, 11)]),
        (
            "abcdefghij",
            "abcdghij",
            [
                (True, 0, 4, 0, 4),
                (False, 4, 6, 4, 4),
                (True, 6, 10, 4, 8),
            ],
        ),
    ],
)
def test_spans(before: str, after: str, spans: list[tuple[bool, int, int, int, int]]) -> None:
    assert check(before, after) == spans


@pytest.mark.parametrize("kind", ["unrelated", "shuffled", "repetitive"])
def test_no_quadratic_cost(kind: str) -> None:
    rng = random.Random(1)
    before = [rng.randrange(10**9) for _ in range(60_000)]
    after = {
        "unrelated": [rng.randrange(10**9) for _ in range(50_000)],
        "shuffled": rng.sample(before, len(before)),
        "repetitive": [7, 8] * 25_000,
    }[kind]
    if kind == "repetitive":
        before = [8, 9, 7] * 20_000
    start = time.process_time()
    check(before, after)
    # difflib alone takes minutes for the last two.
    assert time.process_time() - start < 20
