"""The same kernel, big-endian and ELFv2: without scpatch it fails in the same cases, and with it no
case fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from scpatch.verifier.files import verify_link
from tests.kernel.build import build
from tests.kernel.cases import AT_SITES, CASES, SAFE, TRACE, cases, corrupts
from tests.kernel.conftest import Booted
from tests.kernel.images import calls, module, relocations
from tests.kernel.linux import Linux
from tests.kernel.source import pristine_tree
from tests.kernel.test_at_sites import selftest, table_is_right
from tests.kernel.variants import (
    BIG_ENDIAN_AT_SITES,
    BIG_ENDIAN_BY_LIVEPATCH,
    BIG_ENDIAN_BY_LLD,
    BIG_ENDIAN_BY_PACA,
    BIG_ENDIAN_IN_TREE,
    BIG_ENDIAN_MARKED,
    BIG_ENDIAN_NAIVE,
    BIG_ENDIAN_REWRITTEN,
    Variant,
)


def too_old(linux: Linux) -> str:
    """Nothing is left out of the configuration because of the byte order."""
    text = (pristine_tree(linux) / "arch/powerpc/Kconfig").read_text()
    little = re.search(r"^config MPROFILE_KERNEL\n\tdepends on .*CPU_LITTLE_ENDIAN", text, re.M)
    return "has no livepatching in a big-endian kernel" if little else ""


pytestmark = pytest.mark.unless.with_args(too_old)

STEPS = tuple(step for step in CASES if step != "stubs")
"""The step `stubs` is for images with stubs of scpatch's."""

_BY_DEFAULT = (BIG_ENDIAN_REWRITTEN, BIG_ENDIAN_BY_PACA)
_THOROUGH = (BIG_ENDIAN_MARKED, BIG_ENDIAN_BY_LIVEPATCH, BIG_ENDIAN_IN_TREE, BIG_ENDIAN_BY_LLD)
_STEPS_OF = {
    BIG_ENDIAN_BY_PACA: STEPS,
    BIG_ENDIAN_MARKED: STEPS,
    BIG_ENDIAN_BY_LIVEPATCH: (*STEPS, *TRACE),
}
"""The others take all steps."""


@pytest.fixture(
    params=[
        *_BY_DEFAULT,
        *(pytest.param(variant, marks=pytest.mark.thorough) for variant in _THOROUGH),
    ],
    ids=lambda variant: variant.name,
)
def variant(request: pytest.FixtureRequest) -> Variant:
    assert isinstance(request.param, Variant)
    return request.param


def test_without_scpatch_r2_is_foreign_in_the_same_cases(booted: Booted) -> None:
    log = booted(BIG_ENDIAN_NAIVE, *SAFE)
    assert log.finished
    assert not log.oops
    assert set(log.cases) == cases(*SAFE)
    failed = {name for name, case in log.cases.items() if not case.ok}
    assert failed == {name for name in cases(*SAFE) if corrupts(name)}


def test_every_case_passes(booted: Booted, variant: Variant) -> None:
    steps = _STEPS_OF.get(variant, tuple(CASES))
    assert booted(variant, *steps).faults(cases(*steps)) == []


@pytest.mark.thorough
def test_every_case_passes_with_the_hash_mmu(booted: Booted) -> None:
    """Where the livepatch stack of an interrupt is another."""
    steps = _STEPS_OF[BIG_ENDIAN_BY_LIVEPATCH]
    log = booted(BIG_ENDIAN_BY_LIVEPATCH, *steps, hash_mmu=True)
    assert log.faults(cases(*steps)) == []


@pytest.mark.thorough
def test_every_case_passes_when_call_sites_are_patched(linux: Linux, booted: Booted) -> None:
    log = booted(BIG_ENDIAN_AT_SITES, *AT_SITES, debug=True)
    assert log.faults(cases(*AT_SITES)) == []
    assert selftest(log) == (True, 0)
    table_is_right(build(linux, BIG_ENDIAN_AT_SITES).vmlinux)


def test_it_is_big_endian_and_of_the_second_abi(linux: Linux) -> None:
    kernel = build(linux, BIG_ENDIAN_NAIVE)
    for path in (kernel.vmlinux, module(kernel, "sct_calls.ko"), kernel.init):
        with path.open("rb") as file:
            elf = ELFFile(file)
            abi = 1 if path == kernel.init else 2
            assert (elf.little_endian, elf["e_machine"], elf["e_flags"]) == (False, "EM_PPC64", abi)


def _verdict(image: Path) -> tuple[int, int]:
    """How many calls of an image were proven right, and how many not."""
    verdict = verify_link([image.with_name("vmlinux.o")], image)
    assert verdict.proof.errors == ()
    right = sum(site.right for site in verdict.proof.sites)
    return right, len(verdict.proof.sites) - right


def test_every_call_in_the_image_is_proven(linux: Linux, variant: Variant) -> None:
    """But for livepatch-stack, whose image says that it cannot be."""
    image = build(linux, variant).vmlinux
    count = relocations(image.with_name("vmlinux.o"))
    assert count > 300
    if variant is BIG_ENDIAN_BY_LIVEPATCH:
        (error,) = verify_link([image.with_name("vmlinux.o")], image).proof.errors
        assert "save r2 on the livepatch stack" in error
    else:
        assert _verdict(image) == (count, 0)


def test_no_call_is_right_without_scpatch(linux: Linux) -> None:
    image = build(linux, BIG_ENDIAN_NAIVE).vmlinux
    count = relocations(image.with_name("vmlinux.o"))
    assert calls(image) == {(False, False): count}
    assert _verdict(image) == (0, count)
