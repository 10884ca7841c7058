"""The linked kernels and modules, as binutils see them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import tools
from tests.kernel.build import Kernel, build
from tests.kernel.cases import CASES
from tests.kernel.conftest import Booted
from tests.kernel.images import called, calls, module, relocations, stubs
from tests.kernel.linux import Linux
from tests.kernel.variants import PRELINKED, REWRITTEN, REWRITTEN_VARIANTS, Variant
from tests.tools import CROSS


def test_no_call_in_the_kernel_restores_r2_without_scpatch(naive: Kernel) -> None:
    count = relocations(naive.vmlinux.with_name("vmlinux.o"))
    assert count > 300
    assert calls(naive.vmlinux) == {(False, False): count}


@pytest.mark.parametrize("variant", REWRITTEN_VARIANTS, ids=lambda variant: variant.name)
def test_every_call_in_the_kernel_restores_r2(
    linux: Linux, naive: Kernel, variant: Variant
) -> None:
    """By whatever linker, and however the objects come to it."""
    after = calls(build(linux, variant).vmlinux)
    assert after.total() == relocations(naive.vmlinux.with_name("vmlinux.o"))
    assert after[True, True] + after[False, True] == after.total()
    assert after[False, True] > 10


def test_one_object_has_fewer_stubs(linux: Linux, rewritten: Kernel) -> None:
    """Since the calls of all of `.text` share them, one a trampoline and section, and since nops
    behind the calls of all other functions can save r2."""
    prelinked = stubs(build(linux, PRELINKED).vmlinux)
    assert len(prelinked) < len(stubs(rewritten.vmlinux))


def test_dwarf_changes_no_call(rewritten: Kernel, with_dwarf: Kernel) -> None:
    assert calls(with_dwarf.vmlinux) == calls(rewritten.vmlinux)
    names = [sorted(map(called, stubs(kernel.vmlinux))) for kernel in (with_dwarf, rewritten)]
    assert names[0] == names[1]


def test_the_kernels_symbol_table_names_the_stubs(naive: Kernel, rewritten: Kernel) -> None:
    assert not stubs(naive.vmlinux)
    named = set(map(called, stubs(rewritten.vmlinux)))
    assert {"__SCT__sct_k", "__SCT__tp_func_kfree"} <= named


def test_the_booted_kernel_knows_the_same_stubs(booted: Booted, rewritten: Kernel) -> None:
    case = booted(REWRITTEN, *CASES).cases["stub/kallsyms"]
    assert case.detail == f"count {len(stubs(rewritten.vmlinux))}"


def test_modules_call_their_own_trampolines_by_stubs(naive: Kernel, rewritten: Kernel) -> None:
    before, after = module(naive, "sct_calls.ko"), module(rewritten, "sct_calls.ko")
    assert not stubs(before)
    names = set(map(called, stubs(after)))
    calling = {"sct_m", "sct_m_null", "sct_m_ret0", "sct_m_ten", "sct_m_var"}
    assert names == {f"__SCT__{name}" for name in calling}
    # m_calls_k calls the kernel's trampoline: that is left to the module loader.
    assert relocations(after) == relocations(before)
    assert _undefined_calls(after) == _undefined_calls(before) == ["__SCT__sct_k"]


def _undefined_calls(path: Path) -> list[str]:
    defined = {symbol.index: symbol for symbol in tools.symbols(path)}
    called = [
        defined[relocation.symbol]
        for relocation in tools.relocations(path)
        if relocation.type.startswith("REL24")
    ]
    return [
        symbol.name
        for symbol in called
        if symbol.section == "UND" and symbol.name.startswith("__SCT__")
    ]


def test_dwarf_leads_from_code_to_source(rewritten: Kernel, with_dwarf: Kernel) -> None:
    for kernel, there in ((rewritten, False), (with_dwarf, True)):
        for path in (kernel.vmlinux, module(kernel, "sct_calls.ko")):
            names = {section.name for section in tools.sections(path)}
            assert (".debug_info" in names) == there
    addresses = tools.run(CROSS + "nm", with_dwarf.vmlinux).stdout
    for symbol, source in (("sct_k_calls", r"sct_kernel\.c"), ("kfree", r"sl(ab_common|ub)\.c")):
        (address,) = re.findall(rf"^(\w+) T {symbol}$", addresses, re.MULTILINE)
        line = tools.run(CROSS + "addr2line", "-e", with_dwarf.vmlinux, address).stdout
        assert re.search(rf"/{source}:\d+", line), line


def test_modules_carry_the_versions_of_trampolines(naive: Kernel, rewritten: Kernel) -> None:
    versions = []
    for kernel in (naive, rewritten):
        path = module(kernel, "sct_calls.ko")
        section = tools.section(path, "__versions")
        versions.append(path.read_bytes()[section.offset : section.offset + section.size])
    assert versions[0] == versions[1]
    assert b"__SCT__sct_k\0" in versions[0]


def test_the_compiled_objects_stay_as_they_are(naive: Kernel, rewritten: Kernel) -> None:
    """vmlinux.o, which Kbuild checks but does not link into vmlinux, is made from them."""
    before, after = (kernel.vmlinux.with_name("vmlinux.o") for kernel in (naive, rewritten))
    assert before.read_bytes() == after.read_bytes()
