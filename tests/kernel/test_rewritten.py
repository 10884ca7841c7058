"""The same kernel, from the same objects, is right when scpatch takes part in its links."""

from __future__ import annotations

import re

import pytest

from scpatch.verifier.files import verify_link
from tests.kernel.boot import Log
from tests.kernel.build import build
from tests.kernel.cases import CASES, cases
from tests.kernel.conftest import Booted
from tests.kernel.linux import Linux
from tests.kernel.variants import REWRITTEN, REWRITTEN_VARIANTS, Variant


@pytest.fixture(
    params=[
        pytest.param(variant, marks=[pytest.mark.short] if variant is REWRITTEN else [])
        for variant in REWRITTEN_VARIANTS
    ],
    ids=lambda variant: variant.name,
)
def variant(request: pytest.FixtureRequest) -> Variant:
    assert isinstance(request.param, Variant)
    return request.param


@pytest.fixture
def log(booted: Booted, variant: Variant) -> Log:
    """The kernel with DWARF runs with the hash MMU, the others with the radix MMU."""
    return booted(variant, *CASES, hash_mmu=variant.dwarf)


def test_every_case_passes(log: Log) -> None:
    assert log.faults(cases(*CASES)) == []


def test_it_runs_on_two_cpus_with_the_mmu_it_was_told(log: Log, variant: Variant) -> None:
    text = "\n".join(log.lines)
    assert "Brought up 1 node, 2 CPUs" in text
    assert ("hash-mmu: " in text) == variant.dwarf
    assert ("radix-mmu: " in text) != variant.dwarf


def test_it_was_linked_by_the_linker_of_the_variant(log: Log, variant: Variant) -> None:
    (banner,) = (line for line in log.lines if "] Linux version " in line)
    assert ("LLD " in banner) == (variant.linker == "ld.lld"), banner


def test_a_backtrace_names_the_stub(log: Log) -> None:
    trace = "\n".join(log.after("step stubs"))
    assert re.search(r"NIP \[\w+\] r2save\.__SCT__sct_k\.[0-9a-f]{12}\+0x0/0x8", trace)
    assert re.search(r"LR \[\w+\] sct_k_calls\+", trace)


def test_every_call_in_the_image_is_saved_and_restored(linux: Linux, variant: Variant) -> None:
    image = build(linux, variant).vmlinux
    verdict = verify_link([image.with_name("vmlinux.o")], image)
    assert verdict.proof.errors == ()
    assert [site for site in verdict.proof.sites if not site.right] == []
    assert len(verdict.proof.sites) > 300
