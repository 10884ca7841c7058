"""The loops whose instructions are counted: they run, and the counts follow the strategy."""

from __future__ import annotations

import pytest

from scpatch import strategies
from tests.bench.kernel_workload import Row, boot_all, costs, is_explained
from tests.bench.workload import Loop, Where, static_kernel
from tests.kernel.linux import Linux
from tests.kernel.source import pristine_tree
from tests.kernel.variants import NAIVE, REWRITTEN


def too_old(linux: Linux) -> str:
    header = pristine_tree(linux) / "include/linux/hrtimer.h"
    known = "void hrtimer_setup(" in header.read_text()
    return "" if known else "has no hrtimer_setup()"


pytestmark = pytest.mark.unless.with_args(too_old)


@pytest.fixture(scope="session")
def rewritten(linux: Linux, tmp_path_factory: pytest.TempPathFactory) -> Row:
    scratch = tmp_path_factory.mktemp("rewritten")
    kernel = static_kernel(linux, REWRITTEN)
    return boot_all("rewritten", strategies.DEFAULT, kernel, scratch, boots=2)


@pytest.fixture(scope="session")
def naive(linux: Linux, tmp_path_factory: pytest.TempPathFactory) -> Row:
    scratch = tmp_path_factory.mktemp("naive")
    return boot_all("naive", None, static_kernel(linux, NAIVE), scratch, boots=1)


def test_the_counts_are_those_of_the_strategy(naive: Row, rewritten: Row) -> None:
    assert set(rewritten.counts) == {(loop, where) for loop in Loop for where in Where}
    possible = {cost.same for cost in costs(strategies.DEFAULT)}
    for loop in Loop:
        number = rewritten.counts[loop, Where.MODULE].calls
        assert number > 0
        assert rewritten.per_call(loop, Where.NOWHERE, naive, number) == 0
        more = rewritten.per_call(loop, Where.KERNEL, naive, number)
        assert more is not None
        assert more > 0
        assert is_explained(more, possible)


def test_boots_do_not_differ(rewritten: Row) -> None:
    assert rewritten.spread == 0


def test_a_probe_in_a_module_ends_the_naive_boot(naive: Row) -> None:
    assert {where for _, where in naive.counts} == {Where.NOWHERE, Where.KERNEL}
