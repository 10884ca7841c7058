"""Strategy paca: in the image at build time, in place on the linked image, and why in no module."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tools
from tests.images import calls
from tests.kernel.boot import boot
from tests.kernel.build import Kernel, build
from tests.kernel.cases import CASES, cases
from tests.kernel.conftest import Booted
from tests.kernel.images import code_bytes, module, relocations, stubs
from tests.kernel.linux import Linux
from tests.kernel.variants import BY_PACA
from tests.tools import CROSS, ROOT, run

STEPS = tuple(step for step in CASES if step != "stubs")
"""The image has no stubs."""


@pytest.fixture(scope="session")
def asm_offsets(naive: Kernel) -> Path:
    """As the build of that kernel has made it."""
    return naive.vmlinux.with_name("asm-offsets.h")


@pytest.fixture(scope="session")
def load(asm_offsets: Path) -> str:
    """What has to be behind the calls, as objdump prints it."""
    match = re.search(r"#define PACATOC (\d+) ", asm_offsets.read_text())
    assert match is not None
    return f"ld      r2,{match[1]}(r13)"


def scpatch(*words: str | Path) -> str:
    return run(sys.executable, "-m", "scpatch", *words, cwd=ROOT).stdout


@pytest.fixture(scope="session")
def in_place(naive: Kernel, asm_offsets: Path, tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    """The kernel that was linked without scpatch, patched as a user would."""
    folder = tmp_path_factory.mktemp("in-place")
    files = [Path(shutil.copy(path, folder)) for path in (naive.vmlinux, *naive.modules)]
    offsets = f"--asm-offsets={asm_offsets}"
    scpatch("rewrite", "--strategy=paca", offsets, files[0])
    scpatch("rewrite", *files[1:])
    return replace(naive, vmlinux=files[0], modules=tuple(files[1:]))


@pytest.mark.short
def test_every_case_passes_with_an_image_that_was_linked_so(booted: Booted) -> None:
    assert booted(BY_PACA, *STEPS).faults(cases(*STEPS)) == []


def test_every_case_passes_with_an_image_that_was_patched_in_place(
    in_place: Kernel, tmp_path: Path
) -> None:
    assert boot(in_place, STEPS, tmp_path).faults(cases(*STEPS)) == []


def test_every_call_in_the_image_loads_r2(
    linux: Linux, naive: Kernel, in_place: Kernel, load: str
) -> None:
    count = relocations(naive.vmlinux.with_name("vmlinux.o"))
    for image in (build(linux, BY_PACA).vmlinux, in_place.vmlinux):
        restores = calls(image, "__SCT__[^>]*")
        assert set(restores.values()) == {load}
        assert len(restores) == count
        assert not stubs(image)
    assert set(calls(naive.vmlinux, "__SCT__[^>]*").values()) == {"nop"}


def test_no_byte_of_code_is_added(linux: Linux, naive: Kernel, in_place: Kernel) -> None:
    assert code_bytes(in_place.vmlinux) == code_bytes(naive.vmlinux)
    assert code_bytes(build(linux, BY_PACA).vmlinux) == code_bytes(naive.vmlinux)


def test_modules_are_rewritten_by_callsite(linux: Linux, rewritten: Kernel, load: str) -> None:
    by_paca, other = (
        module(kernel, "sct_calls.ko") for kernel in (build(linux, BY_PACA), rewritten)
    )
    assert stubs(by_paca) == stubs(other) != []
    text = run(CROSS + "objdump", "-d", "--no-show-raw-insn", by_paca).stdout
    assert load not in text
    assert "ld      r2,24(r1)" in text


def test_the_image_is_proven(naive: Kernel, in_place: Kernel, asm_offsets: Path) -> None:
    offsets = f"--asm-offsets={asm_offsets}"
    form = "--format=plain"
    said = scpatch("verify", offsets, form, naive.vmlinux, in_place.vmlinux)
    records = [line.split("\t") for line in said.splitlines()]
    assert [record[2] for record in records if record[0] == "verdict"] == ["proven"]
    sites = [record for record in records if record[0] == "site"]
    assert {record[5] for record in sites} == {"paca"}
    assert len(sites) == len(calls(naive.vmlinux, "__SCT__[^>]*"))


def test_the_segments_stay_where_they_were(naive: Kernel, in_place: Kernel) -> None:
    for option in ("-lW", "-sW"):
        before, after = (
            run(CROSS + "readelf", option, kernel.vmlinux).stdout for kernel in (naive, in_place)
        )
        assert before == after, option


def with_loads(path: Path, target: Path, offset: int) -> int:
    """Writes the load of r2 after the module's calls of its own trampolines, which is wrong.
    Returns how many there are."""
    data = bytearray(path.read_bytes())
    starts = {section.name: section.offset for section in tools.sections(path)}
    symbols = {symbol.index: symbol for symbol in tools.symbols(path)}
    nop, load = (word.to_bytes(4, "little") for word in (tools.NOP, 0xE84D0000 | offset))
    count = 0
    for relocation in tools.relocations(path):
        callee = symbols[relocation.symbol]
        if (
            relocation.type != "REL24"
            or not callee.name.startswith("__SCT__")
            or callee.section == "UND"
        ):
            continue
        at = starts[relocation.table.removeprefix(".rela")] + relocation.offset + 4
        assert data[at : at + 4] == nop
        data[at : at + 4] = load
        count += 1
    target.write_bytes(data)
    return count


def test_in_a_module_it_is_corrupt(
    naive: Kernel, in_place: Kernel, asm_offsets: Path, load: str, tmp_path: Path
) -> None:
    """Whatever the target: r2 is the kernel's after each call of a trampoline in the module. The
    tool refuses to do it."""
    original = module(naive, "sct_calls.ko")
    offsets = f"--asm-offsets={asm_offsets}"
    copy = Path(shutil.copy(original, tmp_path))
    words = [sys.executable, "-m", "scpatch", "rewrite", "--strategy=paca", offsets, str(copy)]
    done = run(*words, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "[SCP220]" in done.stderr
    assert copy.read_bytes() == original.read_bytes()

    (offset,) = re.findall(r"\d+(?=\(r13\))", load)
    forced = tmp_path / "forced" / "sct_calls.ko"
    forced.parent.mkdir()
    assert with_loads(original, forced, int(offset)) >= 5
    others = tuple(file for file in in_place.modules if file.name != forced.name)
    log = boot(replace(in_place, modules=(*others, forced)), ["plain"], tmp_path)
    failed = {name for name, case in log.cases.items() if not case.ok}
    assert failed == {name for name in cases("plain") if _by_module(name)}
    assert {"plain/MMK-1", "plain/MMM-1", "plain/MMM-2", "plain/M-null"} <= failed
    done = run(sys.executable, "-m", "scpatch", "scan", forced, cwd=ROOT)
    assert "SCP220" in done.stdout


def _by_module(case: str) -> bool:
    """Whether the caller and the trampoline of a case lie in the module."""
    return case.partition("/")[2].startswith(("MM", "M-"))
