"""Stubs of linkers for callers without a TOC pointer, and what scpatch itself appends: in images,
by real links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.awkward import PLAIN
from tests.strategies.localentry_support import LINKERS, TRAMPOLINE, marked
from tests.tools import CROSS, LD, LLD, assemble, rewritten, run
from tests.verifier.linked.support import code, far, look, states

BARE = """
        FUNC {name}
        .localentry {name}, 1
        mflr 0
        std 0, 16(1)
        stdu 1, -64(1)
        bl {trampoline}@notoc
        addi 1, 1, 64
        ld 0, 16(1)
        mtlr 0
        blr
        END {name}
"""
"""A caller that has no TOC pointer in r2."""
FAR = '.section .far, "ax"\n' + "".join(
    f"TOC __SCT__{name}\n blr\nEND __SCT__{name}\n" for name in "abc"
)
CALLS = "".join(BARE.format(name=name, trampoline=f"__SCT__{name}") for name in "abc")
START = "FUNC _start\n blr\nEND _start\n"
DISTANCES = {"near": 0x10100000, "out of reach": 0x18000000}
OPTIONS = {
    "Power10": [LD, "--power10-stubs=yes"],
    "no Power10": [LD, "--power10-stubs=no"],
    "lld": [LLD],
}
FORMS = {
    "Power10": r"pla +r12,.*\n.*\tb +",
    "no Power10": r"mflr +r12\n.*bcl .*\n.*mflr +r11\n.*mtlr +r12\n.*addi.*\n",
    "lld": r"<__gep_setup___SCT__a>:\n.*(pla|mflr) +r12",
}


def link_far(tmp_path: Path, command: list[str], address: int, *objects: Path) -> Path:
    """Links with the section .far at an address."""
    path = tmp_path / "image"
    run(*command, *far(tmp_path, address), "-o", path, *objects)
    return path


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_callers_without_a_toc_pointer(tmp_path: Path, how: str, distance: str) -> None:
    objects = assemble(tmp_path, START + CALLS + FAR)
    image = link_far(tmp_path, OPTIONS[how], DISTANCES[distance], objects)
    if distance == "near":
        assert re.search(FORMS[how], code(image)), code(image)
    verdict = look(image, objects)
    assert states(verdict) == {"a": "notoc", "b": "notoc", "c": "notoc"}
    assert verdict.proven


def test_the_nop_that_aligns_an_instruction_of_power10(tmp_path: Path) -> None:
    image = link_far(
        tmp_path, OPTIONS["Power10"], DISTANCES["near"], assemble(tmp_path, START + CALLS + FAR)
    )
    assert len(re.findall(r"nop\n.*pla +r12", code(image))) == 2
    assert look(image).proven


@pytest.mark.parametrize("how", OPTIONS)
def test_those_stubs_help_no_other_caller(tmp_path: Path, how: str) -> None:
    """A caller that needs r2, and calls and sibling calls through the same stubs."""
    source = CALLS.replace(".localentry b, 1\n", "").replace(
        ".localentry c, 1\n        mflr 0", "mflr 0\n b __SCT__c@notoc"
    )
    image = link_far(
        tmp_path, OPTIONS[how], DISTANCES["near"], assemble(tmp_path, START + source + FAR)
    )
    wrong = {site.function for site in look(image).proof.sites if not site.right}
    assert wrong == {"b", "c"}


SIBLING = "FUNC {name}\n .localentry {name}, 1\n b {to}\nEND {name}\n"
SAVING = "saving: std 2, 24(1)\n b __SCT__a\n"


@pytest.mark.parametrize("how", OPTIONS)
def test_sibling_calls_without_a_toc_pointer(tmp_path: Path, how: str) -> None:
    """The caller of such a function expects to lose r2. But a store of r2 would be in its frame."""
    source = START + SIBLING.format(name="f", to="__SCT__a@notoc")
    source += SIBLING.format(name="g", to="saving") + SAVING
    image = link_far(tmp_path, OPTIONS[how], DISTANCES["near"], assemble(tmp_path, source + FAR))
    assert states(look(image)) == {"f": "notoc", "g": "wrong"}


NAMELESS = """
        .balign 8
        {lead}
stub:   std 2, 24(1)
inner:  nop
        pla 12, __SCT__a@pcrel
        b __SCT__a
"""
PLAIN_TRAMPOLINES = "".join(f"FUNC __SCT__{name}\n blr\nEND __SCT__{name}\n" for name in "ab")


@pytest.mark.parametrize("lead", ["", "nop"])
@pytest.mark.parametrize("entered", [False, True])
def test_a_nop_that_was_a_branch(tmp_path: Path, lead: str, entered: bool) -> None:
    """Of a stub's branch to a weak undefined symbol GNU ld makes a nop, which may lie as one that
    aligns does; but nothing begins there."""
    source = "FRAME f\n bl stub\n ld 2, 24(1)\nLEAVE f\n"
    if entered:
        source += BARE.format(name="g", trampoline="inner")
    stub = NAMELESS.format(lead=lead)
    image = tmp_path / "image"
    run(LD, "-o", image, assemble(tmp_path, START + source + PLAIN_TRAMPOLINES + stub))
    right = entered and not lead
    wanted = {"f": "linker" if right else "wrong"}
    if entered:
        wanted["g"] = "notoc" if right else "wrong"
    assert states(look(image)) == wanted


TABLE = " .long 0\n .long 0x1000000\n .long 0x80000080\n"
"""As gcc puts after functions; the last word looks like an instruction."""
BEHIND = """
        .type {name}, @function
        .globl {name}, _start, target
{name}: b target
        .size {name}, 4
_start: blr
target: blr
        .data
        .globl slot
slot:   .quad 0
"""
"""A trampoline that needs no alignment, so it directly follows what was appended."""


def over(tmp_path: Path, linker: str, after: Path, name: str) -> Path:
    """Links a trampoline after a rewritten object, whose last branch leads to it."""
    image = tmp_path / "image"
    run(linker, "-o", image, after, assemble(tmp_path, BEHIND.format(name=name), "rest.o"))
    assert re.search(rf"\tb +\w+ <{name}>", code(image))
    return image


@pytest.mark.parametrize("linker", LINKERS)
def test_a_branch_over_blocks_that_set_r2(tmp_path: Path, linker: str) -> None:
    """Strategy localentry appends them for trampolines that use r2."""
    source = TRAMPOLINE.format(name="__SCT__x") + PLAIN + TABLE
    after = marked(assemble(tmp_path, source))
    assert "r2toc." in run(CROSS + "nm", after).stdout
    image = over(tmp_path, linker, after, "__SCT__y")
    verdict = look(image, after)
    assert states(verdict) == {"f": "linker"}
    assert verdict.proven, verdict


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("lead", ["", "nameless: nop\n", "bl 1f\n b .\n1: nop\n"])
def test_a_sibling_call_over_stubs(tmp_path: Path, linker: str, lead: str) -> None:
    """Code without a function symbol, as assembler code may be: something leads to it."""
    after = rewritten(assemble(tmp_path, PLAIN + " .long 0\n" + lead + " .long 0x80000080\n"))
    verdict = look(over(tmp_path, linker, after, "__SCT__x"))
    wrong = [site.why for site in verdict.proof.sites if not site.right]
    assert wrong == (["a sibling call: nothing can restore r2 after it"] if lead else [])
