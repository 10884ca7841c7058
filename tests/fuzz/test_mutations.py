"""Damaged objects: one message or a right result, never another exception.

Objects are cut everywhere, and a fuzzer changes several things at once. A test run always makes the
same changes. To look for more, set SCPATCH_FUZZ_SEED to any number and SCPATCH_FUZZ_ROUNDS to how
many; `python -m tests.fuzz.bytes` looks guided by coverage.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_object
from scpatch.sites.actions import Common
from tests.fuzz.mutate import at_random
from tests.tools import FIXTURES, apply

SEED = int(os.environ.get("SCPATCH_FUZZ_SEED", "2022"))
ROUNDS = int(os.environ.get("SCPATCH_FUZZ_ROUNDS", "1000"))

CHOICES = (
    Options(),
    Options(undefined="rewrite", no_nop="thunk"),
    Options("localentry"),
    Options("localentry", offsets=Offsets(paca_toc=16)),
    Options(unmark=True),
)


def check(data: bytes, options: Options) -> str:
    """Rewrites in memory; says how it went. The result must be small, and finished."""
    started = time.monotonic()
    try:
        plan, layout = plan_object(memoryview(data), "x.o", options)
    except ScpatchError as error:
        return "error" if error.message else "error without a message"
    assert time.monotonic() - started < 10
    if layout is None:
        return "nothing"
    stubs = len(plan.plan.stubs)
    # Code, a relocation, a symbol and its name for each stub; alignment for everything behind.
    assert layout.size <= 2 * len(data) + 512 * stubs + (1 << 18)
    again, rest = plan_object(memoryview(apply(data, layout)), "x.o", options)
    assert rest is None
    # By the relocation: a damaged object can have two on one instruction.
    changed = {(site.section, site.relocation) for site in plan.plan.sites if site.state.changes}
    after = {(site.section, site.relocation): site.state for site in again.plan.sites}
    assert all(after[place] is Common.DONE for place in changed)
    return "rewritten"


@pytest.mark.parametrize("name", ["refused.o", "calls-clang.o"])
def test_cut_anywhere(name: str) -> None:
    data = (FIXTURES / name).read_bytes()
    results = [check(data[:size], CHOICES[0]) for size in range(0, len(data), 3)]
    # readelf finds fault with each of them too: the section headers come last in these files.
    assert set(results) == {"error"}
    assert check(data, CHOICES[0]) == "rewritten"


@pytest.mark.parametrize(
    "name",
    [
        *("sites.o", "merged.o", "module.ko", "refused.o", "marked.o"),
        *("big/sites.o", "big/merged.o"),
    ],
)
def test_at_random(name: str) -> None:
    data = (FIXTURES / name).read_bytes()
    source = random.Random(SEED)
    for count in range(ROUNDS):
        damaged = at_random(data, source)
        try:
            check(damaged, source.choice(CHOICES))
        except Exception as error:
            raise AssertionError(f"SCPATCH_FUZZ_SEED={SEED}, round {count}") from error
