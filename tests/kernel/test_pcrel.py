"""A kernel of pc-relative code: nothing is to be rewritten, and sites can be patched."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from scpatch import strategies
from scpatch.linux.offsets import read_asm_offsets
from scpatch.rewriter import Options, plan_file
from scpatch.sites.actions import Common
from tests import tools
from tests.kernel.boot import Log
from tests.kernel.build import Kernel, build
from tests.kernel.cases import AT_SITES as SITE_CASES
from tests.kernel.cases import CASES, cases
from tests.kernel.conftest import Booted
from tests.kernel.images import module
from tests.kernel.linux import Linux
from tests.kernel.source import pristine_tree
from tests.kernel.test_at_sites import TABLE, selftest, table
from tests.kernel.variants import PCREL, PCREL_AT_SITES, PCREL_BY_PACA, Variant
from tests.tools import CROSS

STEPS = tuple(step for step in CASES if step != "stubs")
"""There is no stub to stop in."""
NOP = bytes.fromhex("00000060")
VARIANTS = (PCREL, PCREL_BY_PACA, PCREL_AT_SITES)


def too_old(linux: Linux) -> str:
    options = pristine_tree(linux) / "arch/powerpc/platforms/Kconfig.cputype"
    known = "config PPC_KERNEL_PCREL\n" in options.read_text()
    return "" if known else "has no PPC_KERNEL_PCREL"


pytestmark = [pytest.mark.thorough, pytest.mark.unless.with_args(too_old)]


@pytest.fixture
def kernel(linux: Linux) -> Kernel:
    return build(linux, PCREL)


@pytest.fixture
def log(booted: Booted) -> Log:
    return booted(PCREL_AT_SITES, *SITE_CASES, debug=True)


@pytest.mark.parametrize("hash_mmu", [False, True], ids=["radix", "hash"])
def test_every_case_passes(booted: Booted, hash_mmu: bool) -> None:
    assert booted(PCREL, *STEPS, hash_mmu=hash_mmu).faults(cases(*STEPS)) == []


def test_every_case_passes_at_sites(log: Log) -> None:
    assert log.faults(cases(*SITE_CASES)) == []


def test_the_kernels_own_test_passes(log: Log) -> None:
    assert selftest(log) == (True, 0)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: str(variant.name))
def test_the_build_has_no_offset_and_copies_nothing(linux: Linux, variant: Variant) -> None:
    kernel = build(linux, variant)
    offsets = read_asm_offsets(kernel.vmlinux.with_name("asm-offsets.h"))
    assert offsets.paca_toc is None
    text = (linux.folder / variant.tree / f"{variant.name}.log").read_text()
    assert ("  SCPATCH " in text) == (variant is PCREL_AT_SITES)


@pytest.mark.parametrize("strategy", strategies.names())
def test_no_strategy_changes_anything(kernel: Kernel, strategy: str) -> None:
    for path in (kernel.vmlinux.with_name("vmlinux.o"), *kernel.modules):
        plan = plan_file(path, Options(strategy))
        assert plan.outputs == ()
        states = Counter(site.state for entry in plan.objects for site in entry.plan.sites)
        assert states.keys() <= {Common.NOTOC}
        if path.suffix == ".o":
            assert states.total() == len(calls(kernel.vmlinux)) > 200


def test_the_image_needs_no_r2(kernel: Kernel) -> None:
    (entry,) = plan_file(kernel.vmlinux, Options(strategy=None)).objects
    assert len(entry.plan.sites) == len(calls(kernel.vmlinux))
    image = kernel.vmlinux.read_bytes()
    for site in entry.plan.sites:
        if site.state is not Common.NOTOC:
            # The nop aligns what follows. In a linked image nothing tells it from one for a
            # restore, which would do no harm: r2 is volatile in such a function.
            end = site.offset + 8
            while image[(at := site.file_offset + end - site.offset) : at + 4] == NOP:
                end += 4
            assert end % 16 == 0, site


def calls(image: Path) -> Counter[tuple[int, str, bool]]:
    """(address, key, whether it is a tail call) of each branch to a trampoline, as objdump has
    them."""
    listing = tools.run(CROSS + "objdump", "-d", "--no-show-raw-insn", image).stdout
    call = re.compile(r"^([0-9a-f]+):.*\t(bl?) +[0-9a-f]+ <__SCT__(\w+)>$", re.MULTILINE)
    return Counter(
        (int(at, 16), f"__SCK__{name}", branch == "b") for at, branch, name in call.findall(listing)
    )


def test_the_linked_table_has_each_call_under_its_key(linux: Linux) -> None:
    image = build(linux, PCREL_AT_SITES).vmlinux
    found = calls(image)
    entries = Counter((call, key, bool(flags)) for call, key, flags in table(image, tails=True))
    assert entries == found
    assert len(found) > 300


def test_a_module_lists_a_tail_call(linux: Linux) -> None:
    path = module(build(linux, PCREL_AT_SITES), "sct_sites.ko")
    symbols = tools.symbols(path)
    words = [entry for entry in tools.relocations(path) if entry.table == f".rela{TABLE}"]
    tails = [symbols[word.symbol].name for word in words[1::2] if word.addend]
    assert tails == ["__SCK__sct_sites_tail"]


def test_modules_list_the_calls_of_their_own_trampolines(linux: Linux) -> None:
    for path in build(linux, PCREL_AT_SITES).modules:
        symbols = tools.symbols(path)
        words = [entry for entry in tools.relocations(path) if entry.table == f".rela{TABLE}"]
        keys = [symbols[word.symbol] for word in words[1::2]]
        assert all(key.section != "UND" for key in keys)
        assert bool(keys) == any(
            symbol.name.startswith("__SCT__") and symbol.section != "UND" for symbol in symbols
        )
