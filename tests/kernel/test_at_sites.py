"""A kernel that patches its call sites, which it finds by the table of `--emit-sites`."""

from __future__ import annotations

import re
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests import tools
from tests.kernel.boot import Log, boot
from tests.kernel.build import Kernel, build
from tests.kernel.cases import AT_SITES as CASES
from tests.kernel.cases import cases
from tests.kernel.conftest import Booted
from tests.kernel.images import module
from tests.kernel.linux import Linux
from tests.kernel.variants import (
    AT_SITES,
    AT_SITES_BARE,
    AT_SITES_BY_DEFAULT,
    AT_SITES_BY_LLD,
    UNLISTED,
    Variant,
)
from tests.tools import CROSS

TABLE = ".static_call_sites"
_SELFTEST = "test_static_call_init"
"""The kernel's own test of static calls, an initcall (kernel/static_call_inline.c)."""


@pytest.fixture(scope="session")
def kernel(linux: Linux) -> Kernel:
    return build(linux, AT_SITES)


@pytest.fixture(
    params=[AT_SITES, AT_SITES_BY_LLD, AT_SITES_BY_DEFAULT], ids=lambda variant: variant.name
)
def variant(request: pytest.FixtureRequest) -> Variant:
    assert isinstance(request.param, Variant)
    return request.param


@pytest.fixture
def log(booted: Booted, variant: Variant) -> Log:
    """The one that lld has linked runs with the hash MMU, the others with the radix MMU."""
    return booted(variant, *CASES, hash_mmu=variant is AT_SITES_BY_LLD, debug=True)


def test_every_case_passes(log: Log) -> None:
    assert log.faults(cases(*CASES)) == []


def selftest(log: Log) -> tuple[bool, int]:
    """Whether the kernel's own test finished, and how many warnings it gave."""
    start = f"calling  {_SELFTEST}+"
    between: list[str] = []
    for line in log.after(start):
        if re.search(rf"initcall {_SELFTEST}\+\S+ returned 0", line):
            return True, sum("WARNING: " in line and _SELFTEST in line for line in between)
        between.append(line)
    return False, 0


def test_the_kernels_own_test_passes(log: Log) -> None:
    assert selftest(log) == (True, 0)
    assert not [line for line in log.lines if "WARNING:" in line]


@pytest.mark.thorough
def test_a_kernel_in_which_only_static_calls_patch_code(booted: Booted) -> None:
    """On 32 bits, Linux 6.17 mapped its text read-only too early in such a configuration."""
    steps = ("plain", "irq", "load", "toc", "sites", "asleep")
    log = booted(AT_SITES_BARE, *steps, debug=True)
    assert log.faults(cases(*steps)) == []
    assert selftest(log) == (True, 0)


def test_the_kernels_own_test_can_fail(kernel: Kernel, tmp_path: Path) -> None:
    """Its second function adds three instead of two."""
    broken = tmp_path / "vmlinux"
    shutil.copy(kernel.vmlinux, broken)
    address, size = _function(broken, "func_b")
    with broken.open("r+b") as file:
        elf: Any = ELFFile(file)
        (offset,) = elf.address_offsets(address, size)
        file.seek(offset)
        code = file.read(size)
        adds_two, adds_three = (word.to_bytes(4, "little") for word in _ADDI_R3)
        assert code.count(adds_two) == 1
        file.seek(offset)
        file.write(code.replace(adds_two, adds_three))
    log = boot(Kernel(broken, kernel.modules, kernel.init), [], tmp_path, debug=True)
    assert selftest(log) == (True, 1)


_ADDI_R3 = 0x38630002, 0x38630003
"""`addi r3,r3,2` and `addi r3,r3,3`."""


def _function(image: Path, name: str) -> tuple[int, int]:
    listed = tools.run(CROSS + "nm", "-S", image).stdout
    ((address, size),) = re.findall(rf"^(\w+) (\w+) t {name}$", listed, re.MULTILINE)
    return int(address, 16), int(size, 16)


def table(image: Path, *, tails: bool = False) -> list[tuple[int, str, int]]:
    """(address of the call, name of the key, flags) of each entry of a linked kernel's table. Only
    `tails` allow a flag."""
    listed = tools.run(CROSS + "nm", image).stdout
    entries = re.findall(r"^(\w+) \w (\S+)$", listed, re.MULTILINE)
    address = {name: int(value, 16) for value, name in entries}
    keys = {int(value, 16): name for value, name in entries if name.startswith("__SCK__")}
    start, stop = (address[f"__{end}_static_call_sites"] for end in ("start", "stop"))
    with image.open("rb") as file:
        elf: Any = ELFFile(file)
        (offset,) = elf.address_offsets(start, stop - start)
        file.seek(offset)
        data = file.read(stop - start)
        words = struct.unpack(f"{'<' if elf.little_endian else '>'}{len(data) // 4}i", data)
    ends = [start + 4 * at + word for at, word in enumerate(words)]
    mask = 1 if tails else 0
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return [(call, keys[key & ~mask], key & mask) for call, key in pairs]


def test_the_linked_table_has_each_call_under_its_key(linux: Linux, variant: Variant) -> None:
    table_is_right(build(linux, variant).vmlinux)


def table_is_right(image: Path) -> None:
    """What the linker has made of the words, held against objdump's reading of the code."""
    listing = tools.run(CROSS + "objdump", "-d", "--no-show-raw-insn", image).stdout
    call = re.compile(
        r"^([0-9a-f]+):.*\tbl +[0-9a-f]+ <(?:r2save\.)?__SCT__(\w+)(?:\.[0-9a-f]{12})?(?:\+0x8)?>$",
        re.MULTILINE,
    )
    calls = {(int(at, 16), f"__SCK__{name}") for at, name in call.findall(listing)}
    entries = table(image)
    assert len(entries) == len(set(entries)) > 300
    assert {entry[:2] for entry in entries} == calls
    assert Counter(name for _, name, _ in entries)["__SCK__sc_selftest"] == 1


def test_modules_list_the_calls_of_their_own_trampolines(kernel: Kernel) -> None:
    """The kernel's keys are further away than 32 bits reach."""
    path = module(kernel, "sct_calls.ko")
    symbols = tools.symbols(path)
    words = [
        relocation for relocation in tools.relocations(path) if relocation.table == f".rela{TABLE}"
    ]
    names = [symbols[word.symbol].name for word in words[1::2]]
    assert sorted(names) == [
        f"__SCK__sct_m{name}" for name in ("", "_null", "_ret0", "_ten", "_var")
    ]
    assert all(symbols[word.symbol].section != "UND" for word in words)


def test_without_the_table_the_kernel_is_as_right(linux: Linux, booted: Booted) -> None:
    """Every call goes through its trampoline then."""
    steps = ("plain", "irq", "load", "asleep")
    log = booted(UNLISTED, *steps)
    assert {name: case.detail for name, case in log.cases.items() if not case.ok} == {}
    assert set(log.cases) == cases(*steps)
    assert table(build(linux, UNLISTED).vmlinux) == []
