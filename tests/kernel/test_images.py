"""What binutils see in the linked kernels and modules."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests import tools
from tests.kernel.build import REWRITTEN, Kernel
from tests.kernel.cases import CASES
from tests.kernel.conftest import Booted
from tests.tools import CROSS

_CALL = re.compile(r"\tbl +[0-9a-f]+ <((?:r2save\.)?__SCT__[^>+]+)[^>]*>")
_RESTORE = re.compile(r"\tld +r2,24\(r1\)$")


def calls(image: Path) -> Counter[tuple[bool, bool]]:
    """The calls of trampolines in a linked image: by stub or not, with r2 restored or not."""
    listed = tools.run(CROSS + "objdump", "-d", "--no-show-raw-insn", image).stdout
    found: Counter[tuple[bool, bool]] = Counter()
    for line, following in pairwise(listed.splitlines()):
        if match := _CALL.search(line):
            found[match[1].startswith("r2save."), bool(_RESTORE.search(following))] += 1
    return found


def relocations(image: Path) -> int:
    """How many relocations for calls name trampolines."""
    listed = tools.run(CROSS + "readelf", "-rW", image).stdout
    return len(re.findall(r" R_PPC64_REL24 +[0-9a-f]+ __SCT__", listed))


def stubs(image: Path) -> list[str]:
    """The names of the stubs, sorted. Each is a function of eight bytes."""
    listed = tools.run(CROSS + "nm", "-S", image).stdout
    found = re.findall(r"^\w+ 0{15}8 [tTW] (r2save\..+)$", listed, re.MULTILINE)
    assert len(found) == listed.count(" r2save.")
    return sorted(found)


def called(stub: str) -> str:
    """The trampoline that a stub is for."""
    return stub.split(".")[1]


def module(kernel: Kernel, name: str) -> Path:
    (found,) = (path for path in kernel.modules if path.name == name)
    return found


def test_every_call_in_the_kernel_restores_r2(naive: Kernel, rewritten: Kernel) -> None:
    count = relocations(naive.vmlinux.with_name("vmlinux.o"))
    assert count > 300
    assert calls(naive.vmlinux) == {(False, False): count}
    after = calls(rewritten.vmlinux)
    assert after.total() == count
    assert after[True, True] + after[False, True] == count
    assert after[False, True] > 10


def test_dwarf_changes_no_call(rewritten: Kernel, with_dwarf: Kernel) -> None:
    assert calls(with_dwarf.vmlinux) == calls(rewritten.vmlinux)
    names = [sorted(map(called, stubs(one.vmlinux))) for one in (with_dwarf, rewritten)]
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
    defined = {one.index: one for one in tools.symbols(path)}
    called = [
        defined[one.symbol] for one in tools.relocations(path) if one.type.startswith("REL24")
    ]
    return [one.name for one in called if one.section == "UND" and one.name.startswith("__SCT__")]


def test_dwarf_leads_from_code_to_source(rewritten: Kernel, with_dwarf: Kernel) -> None:
    for kernel, there in ((rewritten, False), (with_dwarf, True)):
        for path in (kernel.vmlinux, module(kernel, "sct_calls.ko")):
            names = {one.name for one in tools.sections(path)}
            assert (".debug_info" in names) == there
    addresses = tools.run(CROSS + "nm", with_dwarf.vmlinux).stdout
    for symbol, source in (("sct_k_calls", "sct_kernel.c"), ("kfree", "slab_common.c")):
        (address,) = re.findall(rf"^(\w+) T {symbol}$", addresses, re.MULTILINE)
        line = tools.run(CROSS + "addr2line", "-e", with_dwarf.vmlinux, address).stdout
        assert re.search(rf"/{source}:\d+", line), line


def test_modules_carry_the_versions_of_trampolines(naive: Kernel, rewritten: Kernel) -> None:
    versions = []
    for kernel in (naive, rewritten):
        path = module(kernel, "sct_calls.ko")
        found = tools.section(path, "__versions")
        versions.append(path.read_bytes()[found.offset : found.offset + found.size])
    assert versions[0] == versions[1]
    assert b"__SCT__sct_k\0" in versions[0]


def test_the_compiled_objects_stay_as_they_are(naive: Kernel, rewritten: Kernel) -> None:
    """vmlinux.o, which Kbuild checks but does not link into vmlinux, is made from them."""
    one, other = (kernel.vmlinux.with_name("vmlinux.o") for kernel in (naive, rewritten))
    assert one.read_bytes() == other.read_bytes()
