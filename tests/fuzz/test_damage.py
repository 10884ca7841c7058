"""A fixed share of the damage that `python -m tests.fuzz.damage` does: nothing that changes what a
program does is called proven. How many are tried, and accepted because they do no harm, is exact.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fuzz.damage import FILES, STRATEGIES, judge_all

SHARE = 7
EXPECTED: dict[str, dict[str, tuple[int, int]]] = {
    "callsite": {
        "register": (45, 0),
        "slot": (45, 0),
        "missing restore": (4, 0),
        "missing save": (2, 0),
        "wrong trampoline": (13, 0),
        "wrong stub": (23, 2),
        "relocation type": (15, 0),
        "addend": (15, 0),
        "swapped relocations": (4, 0),
        "st_other": (16, 0),
        "moved symbol": (12, 0),
        "lost section": (9, 0),
        "bit: site": (220, 0),
        "bit: relocation": (659, 0),
        "bit: added code": (92, 0),
        "bit: symbol of a trampoline": (166, 0),
        "bit: symbol of a stub": (276, 0),
    },
    "paca": {
        "register": (28, 0),
        "slot": (28, 0),
        "missing restore": (4, 0),
        "wrong trampoline": (8, 0),
        "relocation type": (11, 0),
        "addend": (11, 0),
        "swapped relocations": (2, 0),
        "st_other": (6, 0),
        "moved symbol": (4, 0),
        "lost section": (6, 0),
        "bit: site": (220, 0),
        "bit: relocation": (659, 0),
        "bit: symbol of a trampoline": (166, 0),
    },
    "localentry": {
        "wrong trampoline": (8, 0),
        "wrong stub": (8, 0),
        "relocation type": (11, 0),
        "addend": (11, 0),
        "swapped relocations": (2, 0),
        "st_other": (10, 0),
        "moved symbol": (8, 0),
        "lost section": (8, 0),
        "bit: site": (220, 0),
        "bit: relocation": (659, 0),
        "bit: added code": (128, 0),
        "bit: symbol of a trampoline": (166, 0),
        "bit: symbol of a stub": (110, 0),
    },
    "livepatch-stack": {
        "register": (32, 4),
        "slot": (30, 0),
        "missing restore": (2, 0),
        "missing save": (2, 0),
        "wrong trampoline": (8, 0),
        "wrong stub": (4, 0),
        "relocation type": (11, 0),
        "addend": (11, 0),
        "swapped relocations": (2, 0),
        "st_other": (8, 0),
        "moved symbol": (6, 0),
        "lost section": (8, 0),
        "bit: site": (220, 0),
        "bit: relocation": (659, 0),
        "bit: added code": (220, 0),
        "bit: symbol of a trampoline": (166, 0),
        "bit: symbol of a stub": (56, 0),
    },
}
"""Mutations of each class that are tried, and accepted because they do no harm."""


@pytest.mark.parametrize("big", [False, True], ids=["little", "big"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_changes_the_program_is_not_proven(strategy: str, big: bool) -> None:
    tried: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for file in (file for file in FILES if file.startswith("big/") == big):
        for verdict in judge_all(file, strategy, SHARE, everything=False):
            tried[verdict.kind] += 1
            accepted[verdict.kind] += not verdict.proof
            assert verdict.proof or verdict.changed is False, (
                f"{file}: {verdict.kind}: {verdict.what}"
            )
    assert {kind: (count, accepted[kind]) for kind, count in tried.items()} == EXPECTED[strategy]
