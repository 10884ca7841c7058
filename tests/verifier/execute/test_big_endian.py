"""Calls of big-endian objects, which GNU as writes and QEMU runs; what the linker adds included."""

import subprocess
from pathlib import Path

import pytest

from scpatch.verifier.execute import Outcome, execute
from scpatch.verifier.files import verify_files
from scpatch.verifier.options import NO_OFFSETS, KernelOffsets
from scpatch.verifier.tools import Search, find_tools
from tests.bigendian import twin
from tests.elfwriter import build
from tests.verifier.execute.support import STUB, TARGET, TRAMPOLINE, site_at
from tests.verifier.execute.test_run import BY_STUB, LOST, THUNK, UNPATCHED
from tests.verifier.proof.support import TRAMPOLINES, apply, calls, function, with_stub
from tests.verifier.proof.support import assemble as describe

PACA_TOC = 16
FAR = f"""
        .section .text.far, "ax"
        .globl {TARGET}
        .type {TARGET}, @function
{TARGET}: .localentry {TARGET}, 1
        blr
"""


def assemble(directory: Path, source: str, name: str = "x") -> Path:
    path = directory / f"{name}.o"
    text = ".abiversion 2\n.machine power8\n" + source
    command = [find_tools(byte_order="big").assembler, "-a64", "-mbig", "-o", str(path), "-"]
    subprocess.run(command, input=text, text=True, check=True)
    return path


def run(
    directory: Path,
    source: str,
    offsets: KernelOffsets = NO_OFFSETS,
    *,
    length: int = 8,
    loader: bool = False,
) -> Outcome:
    path = assemble(directory, source)
    site = site_at(path, length=length, loader=loader)
    (outcome,) = execute(path, [site], find_tools(byte_order="big"), offsets)
    return outcome


@pytest.mark.parametrize(
    ("source", "length"),
    [(BY_STUB + STUB + TRAMPOLINE, 8), (THUNK + TRAMPOLINE, 4), (UNPATCHED + FAR, 8)],
    ids=["stub", "thunk", "linker"],
)
def test_a_right_call_keeps_r2(tmp_path: Path, source: str, length: int) -> None:
    outcome = run(tmp_path, source, length=length)
    assert (outcome.reached, outcome.reasons) == (True, ())


def test_an_unpatched_call_loses_r2(tmp_path: Path) -> None:
    outcome = run(tmp_path, UNPATCHED + TRAMPOLINE)
    (reason,) = outcome.reasons
    assert outcome.reached
    assert reason.startswith("r2 is 0x2d02dead0202 after the call instead of 0x")
    assert reason.endswith(LOST)


def test_the_loader_and_the_paca_keep_r2(tmp_path: Path) -> None:
    undefined = UNPATCHED + f"\n.globl {TARGET}\n"
    assert run(tmp_path, undefined, loader=True).reasons == ()
    load = UNPATCHED.replace("nop\n        nop", f"ld 2, {PACA_TOC}(13)\n        nop")
    source = load + TRAMPOLINE
    assert run(tmp_path, source, KernelOffsets(paca_toc=PACA_TOC)).reasons == ()
    assert run(tmp_path, source, KernelOffsets(paca_toc=PACA_TOC + 8)).reasons != ()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("std 2, 16(1)", "memory at 16(r1) changed from"),
        ("std 2, 24(1)\n stw 3, 40(1)", "memory at 40(r1) changed from"),
        ("std 2, 24(1)\n li 14, 1", "r14 changed from 0x2c0ec0de0e0e to 0x1 over the call"),
        ("std 2, 24(1)\n vspltisw 20, 1", "v20 changed from"),
        ("std 2, 24(1)\n lfd 14, 0(1)", "f14 changed from"),
        ("std 2, 24(1)\n crclr 8", "cr2 changed from 0xa to"),
        ("std 2, 24(1)\n trap", "crashed with SIGTRAP"),
    ],
)
def test_what_a_stub_spoils_is_seen(tmp_path: Path, wrong: str, complaint: str) -> None:
    stub = STUB.replace("std 2, 24(1)", wrong)
    reasons = run(tmp_path, BY_STUB + stub + TRAMPOLINE).reasons
    assert any(reason.startswith(complaint) for reason in reasons), reasons


def test_verify_takes_the_programs_of_the_byte_order(tmp_path: Path) -> None:
    elf = describe(tmp_path, TRAMPOLINES + function(".frame\n bl __SCT__x\n nop\n .unframe"))
    before = twin(build(elf))
    after = twin(build(apply(elf, with_stub(elf, calls(elf)))))
    (verdict,) = verify_files(before, after, tools=Search())
    assert (verdict.proof.errors, verdict.proven) == ((), True)
    assert verdict.tools is not None
    assert Path(verdict.tools.emulator or "").name in ("qemu-ppc64", "qemu-ppc64-static")
    (runs,) = verdict.runs or ()
    assert (runs.before.passed, runs.after.passed) == (False, True)
    (undone,) = verify_files(before, before, tools=Search())
    assert not undone.proven
