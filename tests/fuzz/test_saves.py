"""Saves of the function itself: the proof against what the program does, with the exact figures."""

from __future__ import annotations

from collections import defaultdict

import pytest

from scpatch.elf.encoding import ByteOrder
from tests.fuzz.saves import Outcome, outcomes

EXPECTED = {
    "right": (2, 2, 2),
    "missing save": (2, 0, 0),
    "register": (4, 0, 0),
    "slot": (6, 1, 0),
    "another frame": (3, 0, 0),
    "one path only": (5, 2, 0),
    "overwritten": (4, 0, 0),
    "feature section": (5, 1, 1),
    "jump label": (1, 0, 0),
    "relocated save": (1, 0, 0),
}
"""Cases, those that run right, and those that are proven."""
BIG = EXPECTED | {"slot": (6, 0, 0)}
"""Half of r2 is enough in little endian only: the other half is zero."""


@pytest.mark.parametrize("order", ["little", "big"])
def test_what_is_proven_runs_right(order: ByteOrder) -> None:
    outcomes_by_kind: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes(order):
        outcomes_by_kind[outcome.case.kind].append(outcome)
    wrong = [
        outcome.case
        for all_ in outcomes_by_kind.values()
        for outcome in all_
        if outcome.proven and not outcome.right
    ]
    assert not wrong
    figures = {
        kind: (
            len(all_),
            sum(outcome.right for outcome in all_),
            sum(outcome.proven for outcome in all_),
        )
        for kind, all_ in outcomes_by_kind.items()
    }
    assert figures == (BIG if order == "big" else EXPECTED)
