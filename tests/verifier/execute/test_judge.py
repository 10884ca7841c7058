"""Each thing that the run watches: a site that gets only this wrong fails for this reason."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.verifier.execute import Outcome, execute
from scpatch.verifier.tools import find_tools
from tests.verifier.execute.support import TARGET, TRAMPOLINE, assemble, run, run_one, site_at

SAVE = "std 2, 24(1)\n"
GO = f"b {TARGET}\n"


def stub(body: str) -> str:
    """A site that calls through a stub with this body."""
    return f".text\nsite: bl stub\n ld 2, 24(1)\n nop\nstub:\n{body}\n{TRAMPOLINE}"


def thunk(body: str) -> str:
    """A site that calls through a thunk with this body."""
    return f".text\nsite: b thunk\n trap\n trap\nthunk:\n{body}\n{TRAMPOLINE}"


CALL = f"std 2, 24(1)\nbl {TARGET}\n"
BACK = "ld 2, 24(1)\nb site + 4\n"

ON_THE_WAY = {
    "argument r3": ("li 3, 0", "r3 changed from 0x.* to 0x0 on the way .* argument register"),
    "argument r10": ("li 10, 0", "r10 changed .* argument register"),
    "argument r3, upper half": ("extsw 3, 3", "r3 changed .* argument register"),
    "argument f1": ("fmr 1, 2", "f1 changed .* argument register"),
    "argument f13": ("fmr 13, 2", "f13 changed .* argument register"),
    "argument v2": ("vor 2, 3, 3", "v2 changed .* argument register"),
    "argument v13": ("vsldoi 13, 13, 13, 8", "v13 changed .* argument register"),
    "r1": ("addi 1, 1, 16", "r1 changed .* on the way to the target"),
    "r2": ("li 2, 0", "r2 changed .* to 0x0 on the way to the target"),
    "r13": ("li 13, 0", "r13 changed .* on the way to the target"),
    "r14": ("li 14, 7", "r14 changed from 0x2c0ec0de0e0e to 0x7 over the call"),
    "r31": ("li 31, 7", "r31 changed .* over the call"),
    "cr2": ("mtcrf 0x20, 1", "cr2 changed from 0xa to 0x. over the call"),
    "cr3": ("mtcrf 0x10, 1", "cr3 changed .* over the call"),
    "cr4": ("mtcrf 0x08, 1", "cr4 changed .* over the call"),
    "f14": ("fmr 14, 2", "f14 changed .* over the call"),
    "f31": ("fmr 31, 2", "f31 changed .* over the call"),
    "v20": ("vor 20, 3, 3", "v20 changed .* over the call"),
    "v31": ("vsldoi 31, 31, 31, 8", "v31 changed .* over the call"),
    "back chain": ("std 3, 0(1)", r"memory at 0\(r1\) changed .* on the way to the target"),
    "memory at 8(r1)": ("std 2, 8(1)", r"memory at 8\(r1\) changed .* on the way to the target"),
    "memory at 16(r1)": ("std 2, 16(1)", r"memory at 16\(r1\) changed .* on the way to the target"),
    "memory at 32(r1)": ("std 2, 32(1)", r"memory at 32\(r1\) changed .* on the way to the target"),
    "stack argument": ("stb 3, 103(1)", r"memory at 96\(r1\) changed .* on the way to the target"),
    "local variable": ("stw 3, 3000(1)", r"memory at 3000\(r1\) changed .* to the target"),
    "below r1": ("std 2, -1024(1)", r"memory at -1024\(r1\) changed .* on the way to the target"),
}


@pytest.mark.parametrize("name", ON_THE_WAY)
def test_a_stub_that_changes(tmp_path: Path, name: str) -> None:
    instruction, wanted = ON_THE_WAY[name]
    outcome = run_one(tmp_path, stub(f"{SAVE}{instruction}\n{GO}"))
    assert outcome.reached
    assert any(re.search(wanted, reason) for reason in outcome.reasons), outcome.reasons


ON_THE_WAY_BACK = {
    "result r3": ("li 3, 0", "r3 changed from 0x2d03dead0303 to 0x0 on the way back"),
    "result r4": ("li 4, 0", "r4 changed .* on the way back"),
    "result f1": ("fmr 1, 14", "f1 changed .* on the way back"),
    "result v2": ("vor 2, 20, 20", "v2 changed .* on the way back"),
    "24(r1)": ("std 1, 24(1)\nmr 2, 2", r"memory at 24\(r1\) changed .* on the way back"),
    "local variable": ("std 1, 104(1)", r"memory at 104\(r1\) changed .* on the way back"),
    "r1": ("addi 1, 1, 32", "r1 changed .* over the call"),
    "r13": ("addi 13, 13, 32", "r13 changed .* over the call"),
    "r30": ("mr 30, 3", "r30 changed .* over the call"),
    "cr4": ("mtcrf 0x08, 1", "cr4 changed .* over the call"),
}


@pytest.mark.parametrize("name", ON_THE_WAY_BACK)
def test_a_thunk_that_changes_on_the_way_back(tmp_path: Path, name: str) -> None:
    instruction, wanted = ON_THE_WAY_BACK[name]
    outcome = run_one(tmp_path, thunk(f"{CALL}ld 2, 24(1)\n{instruction}\nb site + 4\n"), length=4)
    assert outcome.reached
    (reason,) = outcome.reasons
    assert re.search(wanted, reason)


@pytest.mark.parametrize("place", [-8, -24, -288, 8, 16, 32, 88])
def test_a_save_where_the_target_may_write_is_lost(tmp_path: Path, place: int) -> None:
    body = f"std 2, {place}(1)\nbl {TARGET}\nld 2, {place}(1)\nb site + 4\n"
    reasons = run_one(tmp_path, thunk(body), length=4).reasons
    assert any(reason.startswith("r2 is 0x2d00dead0000 after the call") for reason in reasons)


# (before the call, after it): leaves cr0.eq set if the register is as it was.
TRUSTED = {
    **{f"r{n}": (f"mr {n}, 1", f"cmpd {n}, 1") for n in (0, *range(3, 13))},
    "ctr": ("mtctr 1", "mfctr 12\ncmpd 12, 1"),
    "xer": ("li 12, 0\nmtxer 12", "mfxer 12\ncmpdi 12, 0"),
    "cr0": ("cmpd 1, 1", ""),
    "cr1": ("cmpdi 1, 1, 0", "mcrf 0, 1\ncrmove 2, 1"),
    "cr5": ("cmpdi 5, 1, 0", "mcrf 0, 5\ncrmove 2, 1"),
    "cr6": ("cmpd 6, 1, 1", "mcrf 0, 6"),
    "cr7": ("cmpdi 7, 1, 0", "mcrf 0, 7\ncrmove 2, 1"),
    "f0": ("", "fcmpu 0, 0, 14"),
    "f13": ("", "fcmpu 0, 13, 31"),
    "v0": (
        "vor 0, 31, 31",
        "vcmpequb. 1, 0, 31\nmfcr 12\nandi. 12, 12, 0x80\nxori 12, 12, 0x80\ncmpdi 12, 0",
    ),
    "v19": (
        "vor 19, 31, 31",
        "vcmpequb. 1, 19, 31\nmfcr 12\nandi. 12, 12, 0x80\nxori 12, 12, 0x80\ncmpdi 12, 0",
    ),
}


@pytest.mark.parametrize("name", TRUSTED)
def test_a_thunk_that_trusts_a_volatile_register(tmp_path: Path, name: str) -> None:
    """It goes back only if the register came back unchanged, which the target sees to."""
    before, after = TRUSTED[name]
    outcome = run_one(
        tmp_path, thunk(f"{before}\n{CALL}{after}\nbeq 0f\ntrap\n0: {BACK}"), length=4
    )
    assert any(reason.startswith("crashed with SIGTRAP") for reason in outcome.reasons)


def only_reason(outcome: Outcome) -> str:
    (reason,) = outcome.reasons
    return reason


def test_a_stub_that_forgets_the_save(tmp_path: Path) -> None:
    reason = only_reason(run_one(tmp_path, stub(GO)))
    assert reason.startswith("r2 is 0x2e18bad00018 after the call instead of")
    assert reason.endswith("the old value of 24(r1): nobody has saved r2 there")


def test_a_store_into_the_image(tmp_path: Path) -> None:
    body = f"{SAVE}addis 12, 2, word@toc@ha\naddi 12, 12, word@toc@l\nstd 2, 0(12)\n{GO}"
    data = ".data\n.skip 24\nword: .quad 0\n"
    outcome = run_one(tmp_path, stub(body) + data)
    assert outcome.reasons == (
        "crashed with SIGSEGV at .text+0x18, accessing .data+0x18",
        "the trampoline's target was never reached",
    )
    assert not outcome.reached


@pytest.mark.parametrize("section", [".bss", ".text", ".rodata"])
def test_a_store_anywhere_in_the_image(tmp_path: Path, section: str) -> None:
    body = f"{SAVE}addis 12, 2, word@toc@ha\naddi 12, 12, word@toc@l\nstd 2, 0(12)\n{GO}"
    more = f".section {section}\n.balign 8\nword: .skip 8\n"
    reason = run_one(tmp_path, stub(body) + more).reasons[0]
    assert reason.startswith(f"crashed with SIGSEGV at .text+0x18, accessing {section}")


@pytest.mark.parametrize("register", [0, 3, 9, 14, 30])
def test_a_store_through_any_register(tmp_path: Path, register: int) -> None:
    outcome = run_one(tmp_path, stub(f"{SAVE}stdx 2, 31, {register}\n{GO}"))
    assert outcome.reasons[0].startswith("crashed with SIG")
    outcome = run_one(tmp_path, stub(f"{SAVE}ld 12, 0({register or 4})\n{GO}"))
    assert outcome.reasons[0].startswith("crashed with SIGSEGV at .text+0x10, accessing 0x2c")


def test_a_store_just_outside_the_watched_memory(tmp_path: Path) -> None:
    for place in (-1032, 3072):
        outcome = run_one(tmp_path, stub(f"{SAVE}std 2, {place}(1)\n{GO}"))
        assert outcome.reasons[0].startswith("crashed with SIGSEGV at .text+0x10, accessing 0x")


def test_a_crash_after_the_target(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, thunk(f"{CALL}trap\n{BACK}"), length=4)
    assert outcome.reached
    assert only_reason(outcome) == "crashed with SIGTRAP at .text+0x14"


def test_an_illegal_instruction(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, stub(f"{SAVE}.long 0\n{GO}"))
    assert outcome.reasons[0] == "crashed with SIGILL at .text+0x10"


def test_a_thunk_that_returns_to_a_wrong_place(tmp_path: Path) -> None:
    for place, end in ((8, "crashed with SIGTRAP at .text+0x8"), (-4, "crashed with SIG")):
        body = f"{CALL}ld 2, 24(1)\nb site + {place}\n".replace("+ -4", "- 4")
        source = ".text\ntrap\n" + thunk(body) if place < 0 else thunk(body)
        outcome = run_one(tmp_path, source, length=4)
        assert outcome.reached
        assert only_reason(outcome).startswith(end)


def test_an_endless_loop(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, stub(f"{SAVE}0: addi 12, 12, 1\nb 0b\n"))
    assert re.fullmatch(
        r"control did not come back in 0\.5 s of processor time, it was last at \.text\+0x1[04]",
        outcome.reasons[0],
    )
    assert not outcome.reached


def test_a_target_that_is_called_twice(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, thunk(f"{CALL}{CALL}{BACK}"), length=4)
    assert "the trampoline's target was reached 2 times" in outcome.reasons


def test_a_target_that_is_never_reached(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, stub(f"{SAVE}blr\n"))
    assert not outcome.reached
    assert only_reason(outcome) == "the trampoline's target was never reached"


def test_another_trampoline_than_the_sites(tmp_path: Path) -> None:
    other = TRAMPOLINE.replace(TARGET, "__SCT__other")
    outcome = run_one(tmp_path, stub(f"{SAVE}b __SCT__other\n") + other)
    assert only_reason(outcome) == "the trampoline's target was never reached"


def test_a_site_that_is_no_branch(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, f".text\nsite: nop\n nop\n nop\n{TRAMPOLINE}")
    assert only_reason(outcome) == "the word is 0x60000000, which is no branch"


def test_the_process_ends_and_the_others_still_run(tmp_path: Path) -> None:
    """A stray system call is not caught: exit_group(7), and kill(getpid(), SIGKILL)."""
    leave = "li 0, 234\nli 3, 7\nsc\n"
    die = "li 0, 20\nsc\nli 0, 37\nli 4, 9\nsc\n"
    good = SAVE + GO
    parts = [
        f"site_{n}: bl stub_{n}\n ld 2, 24(1)\n nop\nstub_{n}: {body}\n"
        for n, body in enumerate([good, leave, good, die, leave, good, "trap", "b .", good])
    ]
    path = assemble(tmp_path, ".text\n" + "".join(parts) + TRAMPOLINE)
    outcomes = run(path, *(site_at(path, f"site_{n}") for n in range(len(parts))))
    assert [o.passed for o in outcomes] == [n in (0, 2, 5, 8) for n in range(9)]
    early = "the run did not come to an end here: the process "
    assert only_reason(outcomes[1]) == early + "left with status 7"
    assert only_reason(outcomes[3]) == early + "died of SIGKILL"
    assert only_reason(outcomes[4]) == early + "left with status 7"


def test_a_reserved_st_other(tmp_path: Path) -> None:
    path = assemble(tmp_path, stub(SAVE + GO))
    broken = replace(site_at(path), trampoline_other=7 << 5)
    (outcome,) = run(path, broken)
    assert only_reason(outcome) == "__SCT__x has the reserved value 7 in st_other bits 5-7"


def test_many_crashes_in_one_process(tmp_path: Path) -> None:
    parts = [
        f"site_{n}: bl stub_{n}\n ld 2, 24(1)\n nop\nstub_{n}: {SAVE}{body}\n"
        for n, body in enumerate(["std 2, 0(3)", "std 2, 0(3)", GO, "trap", "trap"])
    ]
    path = assemble(tmp_path, ".text\n" + "".join(parts) + TRAMPOLINE)
    outcomes = run(path, *(site_at(path, f"site_{n}") for n in range(5)))
    ends = [outcome.reasons[:1] for outcome in outcomes]
    assert ends == [
        ("crashed with SIGSEGV at .text+0x10, accessing 0x2c03c0de0303",),
        ("crashed with SIGSEGV at .text+0x24, accessing 0x2c03c0de0303",),
        (),
        ("crashed with SIGTRAP at .text+0x4c",),
        ("crashed with SIGTRAP at .text+0x60",),
    ]


def test_a_place_that_cannot_be_patched(tmp_path: Path) -> None:
    path = assemble(tmp_path, stub(SAVE + GO))
    site = site_at(path)
    bad, good = run(path, replace(site, resume=0x7000000), site)
    assert re.fullmatch("the code at 0x17000... cannot be patched", bad.reasons[0])
    assert not bad.reached
    assert good.passed


def test_a_process_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pause() takes no processor time."""
    monkeypatch.setattr("scpatch.verifier.execute.run._PATIENCE", 3.0)
    source = (
        stub("li 0, 29\nsc\n") + f".text\nlast: bl stub2\n ld 2, 24(1)\n nop\nstub2: {SAVE}{GO}"
    )
    path = assemble(tmp_path, source)
    sites = [site_at(path, name) for name in ("last", "site", "last")]
    last, hung, again = execute(path, sites, find_tools(), limit=0.05)
    assert last.passed
    assert only_reason(hung).endswith("come to an end here: stopped after waiting long for it")
    assert again.passed


WRITES_A_FILE = """
 lis 3, path@h
 ori 3, 3, path@l
 li 4, 0x241  # O_WRONLY, O_CREAT, O_TRUNC
 li 5, 0x1a4
 li 0, 5  # open
 sc
 lis 4, path@h
 ori 4, 4, path@l
 li 5, 8
 li 0, 4  # write
 sc
"""


def test_code_that_writes_a_file(tmp_path: Path) -> None:
    """The code under test may be anything, and must fill no disk."""
    name = f'.data\npath: .asciz "{tmp_path}/new"\n'
    outcome = run_one(tmp_path, stub(f"{SAVE}{WRITES_A_FILE}{GO}") + name)
    assert outcome.reasons == ("the run did not come to an end here: the process died of SIGXFSZ",)
    new = tmp_path / "new"
    assert not new.exists() or new.stat().st_size == 0
