"""The kernel without scpatch fails, and just where it must."""

from __future__ import annotations

import re

import pytest

from tests.kernel.boot import Log
from tests.kernel.cases import CASES, FATAL, SAFE, cases, corrupts
from tests.kernel.conftest import Booted
from tests.kernel.variants import NAIVE


@pytest.fixture
def log(booted: Booted) -> Log:
    return booted(NAIVE, *SAFE)


@pytest.mark.short
def test_it_comes_to_the_end(log: Log) -> None:
    assert log.finished
    assert not log.oops
    assert not log.errors


@pytest.mark.short
def test_each_case_is_reported(log: Log) -> None:
    assert set(log.cases) == cases(*SAFE)


@pytest.mark.short
def test_r2_is_foreign_where_the_target_has_another_toc(log: Log) -> None:
    failed = {name for name, case in log.cases.items() if not case.ok}
    assert failed == {name for name in cases(*SAFE) if corrupts(name)}


@pytest.mark.short
def test_the_value_is_right_all_the_same(log: Log) -> None:
    seen = 0
    for name, case in log.cases.items():
        match = re.search(r"r2 (\w+) -> (\w+) value (-?\d+) wanted (-?\d+)", case.detail)
        if match is None:
            continue
        before, after, value, wanted = match.groups()
        assert value == wanted, name
        assert (before != after) == corrupts(name), name
        seen += 1
    assert seen > 80


@pytest.mark.short
def test_under_load_it_comes_back_wrong_often(log: Log) -> None:
    detail = log.cases["load/both"].detail
    match = re.search(r"wrong-r2 (\d+) (\d+) wrong-value 0 0", detail)
    assert match is not None, detail
    assert all(int(number) > 0 for number in match.groups())


@pytest.mark.parametrize("step", FATAL)
def test_it_dies_of_using_its_toc(booted: Booted, step: str) -> None:
    log = booted(NAIVE, step)
    assert log.oops
    assert not log.finished
    nip = next(line for line in log.after("Oops:") if "NIP [" in line)
    assert FATAL[step] in nip
    assert CASES[step][-1] not in log.cases


def test_a_module_reads_the_wrong_data(booted: Booted) -> None:
    log = booted(NAIVE, "toc")
    assert {name: case.ok for name, case in log.cases.items()} == {
        "toc/K-readonly": True,
        "toc/M-readonly": True,
        "toc/MMK": False,
    }
