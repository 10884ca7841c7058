"""The data flow against an interpreter: what it calls saved must be saved on every path tried."""

from __future__ import annotations

import random
from array import array
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.saved.analysis import SAVED, VALID, Analysis, FunctionCode
from tests.saved.interpreter import Op, Program, wrong_sites
from tests.saved.programs import random_program

START = 0x40


def sites(program: Program) -> list[int]:
    return [at for at, op in enumerate(program.ops) if op.name == "site"]


def described(program: Program) -> FunctionCode:
    """The program as the analysis takes it."""
    targets = {
        START + 4 * at: None
        for at, op in enumerate(program.ops)
        if op.name in ("site", "call", "notoc_call")
    }
    return FunctionCode(
        words=array("I", [op.word for op in program.ops]),
        start=START,
        entry=START,
        targets=targets,
        entries={START + 4 * at for at in program.entries},
        edges={(START + 4 * at, START + 4 * to) for at, to in (program.edges or {}).items()},
        unsure={START + 4 * at for at in program.unsure},
        clobbering={START + 4 * at for at, op in enumerate(program.ops) if op.name == "notoc_call"},
    )


def analysed(program: Program) -> set[int]:
    """Which sites the package calls saved, by their index."""
    analysis = Analysis(described(program)).with_jumps()
    return {at for at in sites(program) if analysis.holds(START + 4 * at, VALID | SAVED)}


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**64))
def test_what_is_called_saved_is_saved(seed: int) -> None:
    """Fifty programs to an example: a seed is all that hypothesis has to vary."""
    source = random.Random(seed)
    for _ in range(50):
        program = random_program(source)
        saved = analysed(program)
        if saved:
            wrong = wrong_sites(program, source, paths=40, steps=60)
            assert not saved & wrong, f"{saved & wrong} in {program}"


def test_enough_is_called_saved() -> None:
    """The test above would hold with an analysis that finds nothing."""
    source = random.Random(1)
    count = sum(bool(analysed(random_program(source))) for _ in range(500))
    assert count > 100


def test_the_analysis_finds_most_of_what_holds() -> None:
    """Straight code and branches only: what no path contradicts is nearly always proven."""
    count: Counter[str] = Counter()
    source = random.Random(20221122)
    for _ in range(600):
        program = _simple(source)
        saved = analysed(program)
        wrong = wrong_sites(program, source, paths=80, steps=40)
        for site in sites(program):
            count["held" if site not in wrong else "broken"] += 1
            count["proven"] += site in saved
    assert count["broken"] > 200
    assert count["proven"] > 0.5 * count["held"]


def _simple(source: random.Random) -> Program:
    """A save, then sites, branches forward and other instructions in any order."""
    size = source.randrange(6, 16)
    ops = []
    for at in range(size):
        kind = source.random()
        if at < size - 2 and kind < 0.25:
            target = source.randrange(at + 2, size)
            ops.append(Op("conditional", 0x41820000 | 4 * (target - at), target))
        elif kind < 0.5:
            ops.append(Op("save", 0xF8410018))
        elif kind < 0.8:
            ops.append(Op("site", 0x48000001))
        else:
            ops.append(Op("other", 0x38630001))
    return Program(ops)


def test_the_interpreter_can_tell() -> None:
    """The oracle itself: it finds the path on which nothing is saved, and no fault where all is."""
    site, save, end = Op("site", 0x48000001), Op("save", 0xF8410018), Op("return", 0x4E800020)
    over = Op("conditional", 0x41820008, 2)
    source = random.Random(1)
    assert wrong_sites(Program((over, save, site, end)), source, paths=40, steps=20) == {2}
    assert wrong_sites(Program((save, over, site, end)), source, paths=40, steps=20) == set()


_PROLOGUE = [0x3C4C0000, 0x38420000]
"""addis r2,r12,0; addi r2,r2,0"""
_BODY = [0xF821FFD1, 0xF8410018, 0x48000001, 0x60000000]
"""stdu r1,-48(r1); std r2,24(r1); bl; nop"""


def _is_saved(prologue: list[int]) -> bool:
    function = FunctionCode(
        words=array("I", [*prologue, *_BODY]),
        start=START,
        entry=START + 8,
        targets={START + 16: None},
    )
    return Analysis(function).with_jumps().holds(START + 16, VALID | SAVED)


def test_code_before_the_local_entry_point_must_only_lead_there() -> None:
    """Whoever comes by the global entry point has the function's r2 after the prologue only."""
    assert _is_saved(_PROLOGUE)
    for other in (0x41820008, 0x4E800420, 0x48000008, 0):  # beq .+8, bctr, b .+8, no instruction
        assert not _is_saved([_PROLOGUE[0], other])
