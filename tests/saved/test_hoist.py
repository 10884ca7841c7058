"""The choice of nops against the interpreter: a save put there is right on every path tried."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.saved.analysis import SAVED, VALID, Analysis
from scpatch.saved.hoist import hoist
from tests.saved.interpreter import Op, Program, wrong_sites
from tests.saved.programs import random_program
from tests.saved.test_analysis import START, described, sites

PUSH = Op("push", 0xF821FFC1, displacement=-64)
"""`stdu r1,-64(r1)`"""


def framed(source: random.Random) -> Program:
    """A random program that mostly opens with a frame: without one no nop is of use."""
    program = random_program(source)
    nop = Op("nop", 0x60000000)
    ops = [nop if op.name in ("other", "read", "padding") else op for op in program.ops]
    if source.random() < 0.8:
        ops[0] = PUSH
    return replace(program, ops=ops)


def chosen(program: Program) -> tuple[set[int], Program]:
    """The sites that nops can save r2 for, by their index, and the program with those saves."""
    analysis = Analysis(described(program))
    places = [START + 4 * at for at in sites(program)]
    with_jumps = analysis.with_jumps()
    places = [place for place in places if not with_jumps.holds(place, VALID | SAVED)]
    nops = {START + 4 * at for at, op in enumerate(program.ops) if op.name == "nop"}
    by_call = hoist(analysis, places, nops)
    changed = {(nop - START) // 4 for used in by_call.values() for nop in used}
    assert changed <= {(nop - START) // 4 for nop in nops}
    save = Op("hoisted", 0xF8410018)
    ops = [save if at in changed else op for at, op in enumerate(program.ops)]
    return {(place - START) // 4 for place in by_call}, replace(program, ops=ops)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**64))
def test_a_save_in_a_nop_is_right(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(50):
        program = framed(source)
        savable, changed = chosen(program)
        if savable:
            wrong = wrong_sites(changed, source, paths=40, steps=60)
            saves = {at for at, op in enumerate(changed.ops) if op.name == "hoisted"}
            assert not wrong & (savable | saves), f"{wrong & (savable | saves)} in {changed}"


def test_enough_nops_are_found() -> None:
    source = random.Random(1)
    count: Counter[bool] = Counter(bool(chosen(framed(source))[0]) for _ in range(3000))
    assert count[True] > 100


def test_the_interpreter_can_tell() -> None:
    """A save in the caller's frame, and a save of a clobbered r2."""
    save, end = Op("hoisted", 0xF8410018), Op("return", 0x4E800020)
    load = Op("load_r2", 0xE8490008)
    source = random.Random(1)
    assert wrong_sites(Program((save, end)), source, paths=5, steps=9) == {0}
    assert wrong_sites(Program((PUSH, load, save, end)), source, paths=5, steps=9) == {2}
    assert wrong_sites(Program((PUSH, save, end)), source, paths=5, steps=9) == set()
