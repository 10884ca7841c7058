"""Trampolines that preserve r2, run along their path to another TOC, and what damage does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.verifier.execute import execute
from scpatch.verifier.tools import find_tools
from tests.verifier.execute.livepatch_support import (
    LINES,
    OFFSETS,
    edited,
    module,
    moved,
    run_all,
    run_one,
    site,
)
from tests.verifier.execute.support import assemble


def test_the_right_code(tmp_path: Path) -> None:
    outcome = run_one(tmp_path)
    assert outcome.reasons == ()
    assert outcome.reached


def test_a_bctr_loses_r2(tmp_path: Path) -> None:
    """The same path without the code, as before a rewrite: r2 is lost."""
    path = assemble(tmp_path, module(0, LINES).replace("b code0", "bctr"))
    (outcome,) = execute(path, [site(path, naive=True)], find_tools(), offsets=OFFSETS)
    assert outcome.reached
    (reason,) = outcome.reasons
    assert reason.endswith("the TOC pointer that the target left")


LATE = (
    *LINES[:18],
    *("addi 11, 11, -24", "std 11, 16(12)", "ld 0, 8(11)", "mtlr 0", "ld 2, 0(11)", "blr"),
)
"""The top of the stack is moved down before all is loaded."""

FIXED = (
    *("ld 12, 2312(13)", "addi 11, 12, 3096", *LINES[4:12]),
    *("ld 12, 2312(13)", "addi 11, 12, 3096", *LINES[14:21], "blr"),
)
"""r2, LR and the marker at a fixed place, whoever calls."""

DAMAGE = {
    "r2 not restored": (edited("ld 2, -24(11)", "nop"), r"r2 is 0x"),
    "LR not restored": (edited("mtlr 0", "nop"), r"crashed with SIGTRAP at \.text\+0x70"),
    "not retreated": (edited("addi 11, 11, -24", "nop"), r"control did not come back"),
    "not advanced": (edited("addi 11, 11, 24", "nop"), r"crashed with SIGTRAP"),
    "no marker": (edited("std 0, -8(11)", "nop"), r"crashed with SIGTRAP at \.text\+0x[0-9a-f]+"),
    "another marker": (edited("ori 0, 0, 0x6e9d", "nop"), r"crashed with SIGTRAP"),
    "r12 not loaded": (edited("mfctr 12", "nop"), r"r12 is 0x340000 at the target instead of"),
    "an argument": (edited("mflr 0", "mflr 3", "mr 0, 3"), r"r3 changed .* argument register"),
    "a result": (edited("mtlr 0", "mr 3, 0", "mtlr 0"), r"r3 changed .* result register"),
    "a saved register": (
        edited("mtlr 0", "mr 14, 0", "mtlr 0"),
        r"r14 changed .* over the call",
    ),
    "a CR field": (edited("mtlr 0", "mtlr 0", "cmpd cr2, 0, 0"), r"cr2 changed"),
    "a frame": (edited("bctrl", "stdu 1, -32(1)", "bctrl", "addi 1, 1, 32"), r"r1 changed from"),
    "24(r1)": (edited("bctrl", "bctrl", "std 2, 24(1)"), r"memory at 24\(r1\) changed"),
    "stored before": (moved(3, 9), r"crashed with SIGTRAP"),
    "loaded after": (LATE, r"r2 is 0x|crashed|came back"),
    "a fixed place": (FIXED, r"control did not come back|crashed with|r2 is 0x"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_seen(tmp_path: Path, name: str) -> None:
    lines, reason = DAMAGE[name]
    outcome = run_one(tmp_path, lines)
    assert any(re.search(reason, text) for text in outcome.reasons), outcome.reasons


def test_every_instruction_is_needed(tmp_path: Path) -> None:
    """All but the check of the marker, which nothing here overwrites."""
    variants = [(*LINES[:at], "nop", *LINES[at + 1 :]) for at in range(len(LINES) - 1)]
    outcomes = run_all(tmp_path, variants)
    passed = [LINES[at].split()[0] for at, outcome in enumerate(outcomes) if outcome.passed]
    assert passed == ["tdne"]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("stored before", ()),
        ("loaded after", ()),
        ("a fixed place", ()),
        (
            "not retreated",
            ("16(thread_info) changed from 0x340800 to 0x340818 over the call",),
        ),
    ],
)
def test_what_is_seen_without_interrupts_and_nested_calls(
    tmp_path: Path, name: str, reasons: tuple[str, ...]
) -> None:
    path = assemble(tmp_path, module(0, DAMAGE[name][0]))
    plain = replace(site(path), code=None)
    (outcome,) = execute(path, [plain], find_tools(), offsets=OFFSETS)
    assert outcome.reasons == reasons


def test_a_sibling_call_returns_to_the_callers_caller(tmp_path: Path) -> None:
    source = module(0, LINES, "b __SCT__{0}\n trap")
    for text, naive in ((source, False), (source.replace("b code0", "bctr"), True)):
        path = assemble(tmp_path, text)
        call = replace(site(path, naive=naive), sibling=True)
        (outcome,) = execute(path, [call], find_tools(), offsets=OFFSETS)
        assert outcome.reached
        assert outcome.passed != naive, outcome.reasons


def test_the_caller_goes_on_at_the_trampoline(tmp_path: Path) -> None:
    source = module(0, LINES).replace("\n        nop\n        .section", "\n        .section")
    source = source.replace(" nop\n        .section", " nop\n        .section")
    start = source.index("__SCT__0: addis")
    source = source[:start] + source[start:].replace(
        "addis 2, 12, .TOC.-__SCT__0@ha\n        addi 2, 2, .TOC.-__SCT__0@l\n"
        "        .localentry __SCT__0, .-__SCT__0\n",
        "nop\n",
    )
    path = assemble(tmp_path, source)
    call = site(path)
    assert call.resume == call.trampoline_offset
    (outcome,) = execute(path, [call], find_tools(), offsets=OFFSETS)
    assert outcome.reasons == ()


def test_without_offsets_the_code_finds_nothing(tmp_path: Path) -> None:
    path = assemble(tmp_path, module(0, LINES))
    (outcome,) = execute(path, [site(path)], find_tools())
    assert any("crashed with SIGSEGV" in reason for reason in outcome.reasons)
