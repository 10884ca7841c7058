"""The kernel that clang compiles and lld links, where this machine's clang is new enough for it."""

from __future__ import annotations

import re

import pytest

from tests.kernel.build import build
from tests.kernel.cases import CASES as ALL_CASES
from tests.kernel.cases import SAFE as ALL_SAFE
from tests.kernel.cases import cases, corrupts
from tests.kernel.conftest import Booted
from tests.kernel.images import calls, relocations
from tests.kernel.linux import Linux
from tests.kernel.toolchain import no_llvm
from tests.kernel.variants import BY_CLANG, NAIVE_BY_CLANG

pytestmark = [pytest.mark.thorough, pytest.mark.unless.with_args(no_llvm)]

CASES, SAFE = (
    tuple(step for step in steps if step != "livepatch") for steps in (ALL_CASES, ALL_SAFE)
)
"""Kconfig lets a ppc64 kernel by clang have no live patches."""


def test_without_scpatch_r2_is_foreign_in_the_same_cases(booted: Booted) -> None:
    log = booted(NAIVE_BY_CLANG, *SAFE)
    assert log.finished
    assert not log.oops
    failed = {name for name, case in log.cases.items() if not case.ok}
    assert failed == {name for name in cases(*SAFE) if corrupts(name)}


def test_every_case_passes(booted: Booted) -> None:
    assert booted(BY_CLANG, *CASES).faults(cases(*CASES)) == []


def test_clang_and_lld_have_made_it(booted: Booted) -> None:
    log = booted(BY_CLANG, *CASES)
    (banner,) = (line for line in log.lines if "] Linux version " in line)
    assert re.search(r"\(Debian clang version .*\bLLD \d", banner), banner


def test_every_call_in_the_kernel_restores_r2(linux: Linux) -> None:
    naive, rewritten = (build(linux, variant).vmlinux for variant in (NAIVE_BY_CLANG, BY_CLANG))
    count = relocations(naive.with_name("vmlinux.o"))
    assert count > 200
    assert calls(naive) == {(False, False): count}
    after = calls(rewritten)
    assert after[True, True] + after[False, True] == after.total() == count
