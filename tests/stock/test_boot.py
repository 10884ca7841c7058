"""A stock kernel boots modules with trampolines of their own: naive ones lose r2."""

from __future__ import annotations

import re
from itertools import product

import pytest

from tests.kernel.boot import Log
from tests.stock.modules import KINDS

CALLS = tuple(map("".join, product(("MM", "NM", "NN"), "KMN")))
"""Caller, trampoline, target: K is the kernel, M and N are modules."""
TRACED = ("caller", "target-in-kernel", "target-in-module")
"""What the function tracer must have seen."""


def corrupts(call: str) -> bool:
    """Whether a naive trampoline brings the caller back with another r2. The module loader sees to
    calls of another module's trampoline."""
    caller, trampoline, target = list(call)
    return caller == trampoline != target


def test_it_comes_to_the_end(log: Log) -> None:
    assert log.finished
    assert not log.oops
    assert not log.errors


def test_each_case_is_reported(log: Log) -> None:
    calls = {f"{kind}{tag}/{call}" for kind in KINDS for tag in ("", "-traced") for call in CALLS}
    assert set(log.cases) == calls | {f"{kind}-traced/{name}" for kind in KINDS for name in TRACED}


@pytest.mark.parametrize("tag", ["naive", "naive-traced"])
def test_the_naive_module_loses_r2(log: Log, tag: str) -> None:
    failed = {call for call in CALLS if not log.cases[f"{tag}/{call}"].ok}
    assert failed == set(filter(corrupts, CALLS)) == {"MMK", "MMN", "NNK", "NNM"}


@pytest.mark.parametrize("tag", [f"{kind}{tag}" for kind in KINDS[1:] for tag in ("", "-traced")])
def test_the_rewritten_module_keeps_it(log: Log, tag: str) -> None:
    assert [call for call in CALLS if not log.cases[f"{tag}/{call}"].ok] == []


def test_only_r2_is_wrong(log: Log) -> None:
    for name, case in log.cases.items():
        tag, _, call = name.partition("/")
        if call in TRACED:
            assert case.ok, name
            continue
        match = re.fullmatch(r"r2 (\w+) -> (\w+) value (\d+) wanted (\d+)", case.detail)
        assert match is not None, case.detail
        before, after, value, wanted = match.groups()
        assert value == wanted, name
        assert (before != after) == (tag.startswith("naive") and corrupts(call)), name
