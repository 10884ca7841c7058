"""What r13 points to while a site runs: the fields that were named, and nothing else."""

import re
from pathlib import Path

import pytest

from scpatch.verifier.options import KernelOffsets
from tests.verifier.execute.support import TARGET, TRAMPOLINE, run_one

PACA_TOC = 16
OFFSETS = KernelOffsets(paca_toc=PACA_TOC, paca_thread_info=2200, livepatch_sp=24)


def restored_from(load: str) -> str:
    """A site whose nop is the word `load`."""
    return f".text\nsite: bl {TARGET}\n {load}\n nop\n{TRAMPOLINE}"


@pytest.mark.parametrize("offset", [0, 8, PACA_TOC, 20, 4096, 32764])
def test_a_load_from_the_paca_keeps_r2(tmp_path: Path, offset: int) -> None:
    source = restored_from(f"ld 2, {offset}(13)")
    assert run_one(tmp_path, source, offsets=KernelOffsets(paca_toc=offset)).passed


@pytest.mark.parametrize("offset", [8, 20, 24, 32764])
def test_a_load_from_elsewhere_in_the_paca_does_not(tmp_path: Path, offset: int) -> None:
    source = restored_from(f"ld 2, {offset}(13)")
    (reason,) = run_one(tmp_path, source, offsets=KernelOffsets(paca_toc=PACA_TOC)).reasons
    assert re.match(r"r2 is 0x[0-9a-f]+ after the call instead of 0x", reason)


def test_without_a_known_paca_the_load_faults(tmp_path: Path) -> None:
    (reason,) = run_one(tmp_path, restored_from(f"ld 2, {PACA_TOC}(13)")).reasons
    assert re.search(r"crashed with SIGSEGV at \.text\+0x4, accessing 0x2c0dc0de0d1d", reason)


def test_the_paca_is_read_only(tmp_path: Path) -> None:
    source = restored_from("ld 2, 16(13)\n") + f"stub: std 2, 256(13)\n b {TARGET}\n"
    source = source.replace(f"bl {TARGET}", "bl stub")
    reasons = run_one(tmp_path, source, offsets=OFFSETS).reasons
    assert re.search(r"crashed with SIGSEGV at .*, accessing 0x", reasons[0])


# A trampoline's frame on the livepatch stack, as a stub that pushes r2 and pops it again.
PUSH = """
        ld 11, 2200(13)
        ld 12, 24(11)
        std 2, 0(12)
        addi 12, 12, 24
        std 12, 24(11)
"""
POP = """
        ld 11, 2200(13)
        ld 12, 24(11)
        addi 12, 12, -24
        std 12, 24(11)
        ld 2, 0(12)
"""


def pushing(pop: str) -> str:
    thunk = f"thunk:\n{PUSH}\n bl {TARGET}\n{pop}\n b site + 4\n"
    return f".text\nsite: b thunk\n trap\n{thunk}{TRAMPOLINE}"


def test_r2_survives_on_the_livepatch_stack(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, pushing(POP), length=4, offsets=OFFSETS)
    assert outcome.reasons == ()
    assert outcome.reached


def test_a_stack_that_is_not_popped_is_seen(tmp_path: Path) -> None:
    pop = POP.replace("std 12, 24(11)", "nop")
    (reason,) = run_one(tmp_path, pushing(pop), length=4, offsets=OFFSETS).reasons
    assert re.fullmatch(
        r"24\(thread_info\) changed from 0x340800 to 0x340818 over the call", reason
    )


@pytest.mark.parametrize(("place", "name"), [("-8(12)", 2040), ("32(11)", 32)])
def test_an_overwritten_thread_is_seen(tmp_path: Path, place: str, name: int) -> None:
    pop = f"{POP}\n std 2, {place}\n"
    (reason,) = run_one(tmp_path, pushing(pop), length=4, offsets=OFFSETS).reasons
    assert reason.startswith(f"{name}(thread_info) changed from ")


def test_the_stack_has_its_mark_below_it(tmp_path: Path) -> None:
    """What the reliable unwinder looks for; the result goes where the run compares it."""
    check = "ld 3, -8(12)\n lis 4, 0x57ac\n ori 4, 4, 0x6e9d\n cmpd 3, 4\n beq 1f\n trap\n1:\n"
    outcome = run_one(tmp_path, pushing(POP + check), length=4, offsets=OFFSETS)
    assert all("on the way back" in reason for reason in outcome.reasons)
    assert len(outcome.reasons) == 2


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (KernelOffsets(paca_toc=32776), "the offset 32776 is out of reach"),
        (KernelOffsets(paca_toc=-8), "the offset -8 is out of reach"),
        (KernelOffsets(0, 8, 4000), "TI_livepatch_sp 4000 is outside the thread_info"),
    ],
)
def test_an_offset_out_of_reach(tmp_path: Path, offsets: KernelOffsets, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_one(tmp_path, restored_from("nop"), offsets=offsets)
