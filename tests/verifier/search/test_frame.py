"""When the proof accepts the function's save of r2, and when it must not.

Each body holds one call of __SCT__x whose nop becomes a restore without a stub; `saved` bodies are
right, `unsaved` ones are not, for the reason that the proof has to give.
"""

from pathlib import Path

import pytest

from tests.verifier.proof.support import (
    TRAMPOLINES,
    assemble,
    calls,
    function,
    prove_change,
    restored,
    states,
    with_thunk,
)

CALL = "bl __SCT__x\n nop\n"

SAVED = {
    "a frame that grows by what is a copy of r1 later": f"""
        .frame
        ld 9, 0(1)
        li 30, -32
        stdux 9, 1, 30
        mr 30, 1
        std 2, 24(1)
        {CALL} .unframe""",
    "beside the slot, by copies of r1": f"""
        .frame
        std 2, 24(1)
        mr 31, 1
        std 3, 32(31)
        stw 3, 20(31)
        stb 3, 23(31)
        addi 9, 1, 32
        std 3, 0(9)
        stdx 3, 9, 8
        stdu 3, 8(9)
        addi 10, 1, 31
        stbu 3, 1(10)
        ld 3, 24(31)
        addi 8, 9, 8
        std 3, 24(8)
        {CALL} .unframe""",
    "at once": f".frame\n std 2, 24(1)\n {CALL} .unframe",
    "for an indirect call": f"""
        .frame
        std 2, 24(1)
        mtctr 3
        bctrl
        ld 2, 24(1)
        {CALL} .unframe""",
    "restored late": f"""
        .frame
        std 2, 24(1)
        mtctr 3
        bctrl
        mr 4, 3
        ld 2, 24(1)
        {CALL} .unframe""",
    "not restored yet": f".frame\n std 2, 24(1)\n mtctr 3\n bctrl\n {CALL} .unframe",
    "on both paths": f"""
        .frame
        cmpdi 3, 0
        beq 1f
        std 2, 24(1)
        b 2f
    1:  std 2, 24(1)
        nop
    2:  {CALL} .unframe""",
    "before a loop": f"""
        .frame
        std 2, 24(1)
    1:  {CALL}
        addic. 3, 3, -1
        bne 1b
        .unframe""",
    "in a loop, again and again": f"""
        .frame
    1:  std 2, 24(1)
        mtctr 3
        bctrl
        ld 2, 24(1)
        cmpdi 3, 0
        beq 1b
        {CALL} .unframe""",
    "padding that reads like a write": f"""
        .frame
        std 2, 24(1)
        ori 2, 2, 0
        ori 1, 1, 0
        xnop
        {CALL} .unframe""",
    "padding after the save's branch": f"""
        .frame
        std 2, 24(1)
        b 1f
        nop
        ori 2, 2, 0
        .p2align 5
    1:  {CALL} .unframe""",
    "padding after a return": f"""
        .frame
        std 2, 24(1)
        cmpdi 3, 0
        bne 1f
        .unframe
        .p2align 5
    1:  {CALL} .unframe""",
    "r2 is read": f".frame\n std 2, 24(1)\n addis 3, 2, 0\n ld 4, 0(2)\n {CALL} .unframe",
    "calls of others": f".frame\n std 2, 24(1)\n bl other\n nop\n {CALL} .unframe",
    "calls of others before": f".frame\n bl other\n nop\n std 2, 24(1)\n {CALL} .unframe",
    "floating point that capstone does not know": f"""
        .frame
        std 2, 24(1)
        .long 0xfd810020, 0xec8996c7
        {CALL} .unframe""",
    "stores beside the slot": f"""
        .frame
        std 2, 24(1)
        std 3, 32(1)
        std 3, 16(1)
        stw 3, 20(1)
        stb 3, 23(1)
        {CALL} .unframe""",
    "stores by other registers": f".frame\n std 2, 24(1)\n std 3, 24(4)\n {CALL} .unframe",
    "a conditional return": f".frame\n std 2, 24(1)\n beqlr\n {CALL} .unframe",
    "marked by a table": f"""
        .frame
        std 2, 24(1)
    1:  twi 31, 3, 0
        {CALL} .unframe
        .section __bug_table, "a"
        .long 1b - .
        .section __lwsync_fixup, "a"
        .quad 1b - .
        .text""",
    "a static branch": f"""
        .frame
        std 2, 24(1)
    1:  nop
    3:  {CALL} .unframe
    2:  li 3, 1
        b 3b
        .section __jump_table, "a"
        .long 1b - ., 2b - .
        .quad 0
        .text""",
    "a fault that is caught": f"""
        .frame
        std 2, 24(1)
    1:  lwz 3, 0(4)
    3:  {CALL} .unframe
    2:  li 3, -14
        b 3b
        .section __ex_table, "a"
        .long 1b - ., 2b - .
        .text""",
    "a debugger's label": f"""
        .frame
        std 2, 24(1)
    1:  {CALL} .unframe
        .section .debug_info, ""
        .quad 1b
        .text""",
    "a get-pc call": f".frame\n std 2, 24(1)\n bcl 20, 31, 1f\n1: mflr 4\n {CALL} .unframe",
}


@pytest.mark.parametrize("body", SAVED.values(), ids=SAVED)
def test_a_save_on_every_path_is_shown(tmp_path: Path, body: str) -> None:
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    proof = prove_change(tmp_path, before, restored(calls(before)))
    assert (states(proof.sites), proof.errors) == (["saved"], ())
    assert proof.sites[0].saved_before


_BY_COPIES = {
    "a frame register": "mr 31, 1\n std 3, 24(31)",
    "a register that is r1 plus an offset": "addi 9, 1, 32\n std 3, -8(9)",
    "a copy of such a register": "mr 31, 1\n mr 30, 31\n std 3, 24(30)",
    "a copy that ori makes": "ori 31, 1, 0\n std 3, 24(31)",
    "half of it": "mr 31, 1\n stw 3, 28(31)",
    "a wide store": "mr 31, 1\n stxv 3, 16(31)",
    "an index": "mr 31, 1\n stdx 3, 31, 9",
    "itself as an index": "mr 31, 1\n stbx 3, 9, 31",
    "an update": "mr 31, 1\n stdu 3, 8(31)",
    "what is set in another place": "std 3, 24(31)\n mr 31, 1",
    "a prefixed instruction": "b 1f\n paddi 31, 1, 0x12344\n1: std 3, 0x40(31)",
}

UNSAVED = {
    **{
        f"another value by {name}": (
            f".frame\n std 2, 24(1)\n {body}\n {CALL} .unframe",
            "another value may go to 24(r1)",
        )
        for name, body in _BY_COPIES.items()
    },
    "never": (f".frame\n {CALL} .unframe", "r1 changes"),
    "never, without frame": (f"{CALL} blr", "without a save"),
    "in the caller's frame": (f"std 2, 24(1)\n .frame\n {CALL} .unframe", "r1 changes"),
    "in a frame that was left": (
        f".frame\n std 2, 24(1)\n addi 1, 1, 32\n stdu 1, -32(1)\n {CALL} .unframe",
        "r1 changes",
    ),
    "r1 from a register": (f".frame\n std 2, 24(1)\n mr 1, 3\n {CALL} .unframe", "r1 changes"),
    "r1 by an update": (f".frame\n std 2, 24(1)\n stdux 1, 1, 9\n {CALL} .unframe", "r1 changes"),
    "r1 by a load with update": (f".frame\n std 2, 24(1)\n ldu 3, 8(1)\n {CALL} .unframe", "r1"),
    "r1 by an indexed update": (f".frame\n std 2, 24(1)\n lwzux 3, 1, 4\n {CALL} .unframe", "r1"),
    "after the call": (f".frame\n {CALL} std 2, 24(1)\n .unframe", "r1 changes"),
    "beside the slot": (f".frame\n std 2, 32(1)\n {CALL} .unframe", "r1 changes"),
    "another register": (f".frame\n std 3, 24(1)\n {CALL} .unframe", "another value"),
    "half of it": (f".frame\n stw 2, 24(1)\n {CALL} .unframe", "another value"),
    "overwritten": (f".frame\n std 2, 24(1)\n std 3, 24(1)\n {CALL} .unframe", "another value"),
    "overwritten in part": (f".frame\n std 2, 24(1)\n stb 3, 31(1)\n {CALL} .unframe", "another"),
    "overwritten by a vector": (
        f".frame\n std 2, 24(1)\n stxv 0, 16(1)\n {CALL} .unframe",
        "value",
    ),
    "overwritten by an index": (f".frame\n std 2, 24(1)\n stdx 3, 1, 4\n {CALL} .unframe", "value"),
    "overwritten by zeros": (f".frame\n std 2, 24(1)\n dcbz 0, 1\n {CALL} .unframe", "another"),
    "a relocated place": (
        f".frame\n .reloc ., R_PPC64_ADDR16_LO_DS, f\n std 2, 24(1)\n {CALL} .unframe",
        "unknown",
    ),
    "a pair of registers": (
        f".frame\n std 2, 24(1)\n .long 0xe0030000\n {CALL} .unframe",
        "unknown",
    ),
    "on one path only": (
        f".frame\n cmpdi 3, 0\n beq 1f\n std 2, 24(1)\n1: {CALL} .unframe",
        "r1 changes",
    ),
    "after the loop's entry": (
        f".frame\n1: {CALL} std 2, 24(1)\n addic. 3, 3, -1\n bne 1b\n .unframe",
        "r1 changes",
    ),
    "a clobbered r2": (
        f".frame\n mtctr 3\n bctrl\n std 2, 24(1)\n {CALL} .unframe",
        "clobbered by the indirect call",
    ),
    "the target's TOC, moved on": (
        f".frame\n mtctr 3\n bctrl\n mr 5, 3\n std 2, 24(1)\n {CALL} .unframe",
        "clobbered by the indirect call",
    ),
    "a call of others with a clobbered r2": (
        f".frame\n std 2, 24(1)\n mtctr 3\n bctrl\n bl other\n nop\n {CALL} .unframe",
        "clobbered by the indirect call",
    ),
    "a restore of an empty slot": (
        f".frame\n mtctr 3\n bctrl\n ld 2, 24(1)\n std 2, 24(1)\n {CALL} .unframe",
        "r1 changes",
    ),
    "a made-up r2": (f".frame\n addi 2, 2, 8\n std 2, 24(1)\n {CALL} .unframe", "r2 is written"),
    "a loaded r2": (f".frame\n ld 2, 16(13)\n std 2, 24(1)\n {CALL} .unframe", "r2 is written"),
    "r2 of a call without toc": (
        f".frame\n bl other@notoc\n std 2, 24(1)\n {CALL} .unframe",
        "clobbered by the call",
    ),
    "an address in data": (
        f".frame\n std 2, 24(1)\n1: {CALL} .unframe\n .data\n .quad 1b\n .text",
        "its address is taken in .data",
    ),
    "a jump table": (
        f".frame\n std 2, 24(1)\n mtctr 3\n bctr\n1: {CALL} .unframe\n"
        '.section .rodata, "a"\n2: .long 1b - 2b\n .text',
        "its address is taken in .rodata",
    ),
    "an address in code": (
        f".frame\n std 2, 24(1)\n addis 3, 2, 1f@toc@ha\n1: {CALL} .unframe",
        "its address is taken in .text",
    ),
    "a branch from another section": (
        f'.frame\n std 2, 24(1)\n1: {CALL} .unframe\n.section .text.unlikely, "ax"\n b 1b\n .text',
        "branches into the function",
    ),
    "a branch from an alternative": (
        f'.frame\n std 2, 24(1)\n1: {CALL} .unframe\n.section __ftr_alt_1, "a"\n beq 1b\n .text',
        "its address is taken in __ftr_alt_1",
    ),
    "a static branch past the save": (
        f"""
        .frame
    1:  nop
        std 2, 24(1)
    2:  {CALL} .unframe
        .section __jump_table, "a"
        .long 1b - ., 2b - .
        .quad 0
        .text""",
        "r1 changes",
    ),
    "a fault before the save": (
        f"""
        .frame
    1:  lwz 3, 0(4)
        std 2, 24(1)
    2:  {CALL} .unframe
        .section __ex_table, "a"
        .long 1b - ., 2b - .
        .text""",
        "r1 changes",
    ),
    "a symbol": (
        f".frame\n std 2, 24(1)\n .globl inside\ninside: {CALL} .unframe",
        "it is the label inside",
    ),
    "code that nothing leads to": (
        f".frame\n .unframe\n std 2, 24(1)\n {CALL} .unframe",
        "nothing is seen to lead to",
    ),
    "data on the path": (f".frame\n std 2, 24(1)\n .long 0x01234567\n {CALL} .unframe", "unknown"),
    "a prefixed instruction": (
        f".frame\n std 2, 24(1)\n .machine power10\n plwz 3, 0(4)\n {CALL} .unframe",
        "unknown",
    ),
    "a string instruction": (
        f".frame\n std 2, 24(1)\n .long 0x7c2004aa\n {CALL} .unframe",
        "unknown",
    ),
    "a loop to the entry": (
        f"b 1f\n0: std 2, 24(1)\n {CALL} b f+8\n1: b 0b",
        "branches back to its own entry",
    ),
}


@pytest.mark.parametrize(("body", "reason"), UNSAVED.values(), ids=UNSAVED)
def test_no_save_is_shown(tmp_path: Path, body: str, reason: str) -> None:
    source = ".machine power10\n" + TRAMPOLINES + function(body)
    before = assemble(tmp_path, source)
    proof = prove_change(tmp_path, before, restored(calls(before)))
    assert states(proof.sites) == ["wrong"]
    assert "no save was found" in proof.errors[0]
    assert reason in proof.errors[0]


def test_an_entry_from_another_function_of_the_section(tmp_path: Path) -> None:
    saves = function(f".frame\n std 2, 24(1)\n.Linside: {CALL} .unframe")
    enters = function("cmpdi 3, 0\n beq .Linside\n blr", name="g")
    before = assemble(tmp_path, TRAMPOLINES + saves + enters)
    proof = prove_change(tmp_path, before, restored(calls(before)))
    assert "in g branches into the function" in proof.errors[0]


def test_the_r2_of_a_function_without_toc_pointer_is_saved(tmp_path: Path) -> None:
    """Whatever r2 holds at its entry, st_other = 1: it is the same after the call."""
    head = ".text\n.globl f\n.type f, @function\nf: .localentry f, 1\n"
    body = f"mflr 0\n std 0, 16(1)\n stdu 1, -32(1)\n std 2, 24(1)\n {CALL} blr\n"
    before = assemble(tmp_path, f"{TRAMPOLINES}{head}{body} .size f, .-f\n")
    proof = prove_change(tmp_path, before, restored(calls(before)))
    assert (states(proof.sites), proof.errors) == (["saved"], ())


def test_code_outside_of_functions_is_not_followed(tmp_path: Path) -> None:
    before = assemble(tmp_path, f"{TRAMPOLINES}\n .text\n std 2, 24(1)\n {CALL}")
    proof = prove_change(tmp_path, before, restored(calls(before)))
    assert "no function symbol covers the call" in proof.errors[0]


def test_an_earlier_call_that_is_left_wrong_spoils_the_later(tmp_path: Path) -> None:
    body = f"""
        .frame
        std 2, 24(1)
        {CALL}
        std 2, 24(1)
        {CALL} .unframe"""
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    first, second = calls(before)
    assert prove_change(tmp_path, before, restored([first, second])).errors == ()
    proof = prove_change(tmp_path, before, restored([second]))
    assert states(proof.sites) == ["left", "wrong"]
    assert "clobbered by the call" in proof.errors[0]


NOT_CALLS = {
    "sibling call": "b __SCT__x\n ld 2, 24(1)",
    "conditional branch": "beq __SCT__x\n ld 2, 24(1)",
    "addend": "bl __SCT__x+4\n ld 2, 24(1)",
    "restore that is branched to": "cmpdi 3, 0\n beq 1f\n bl __SCT__x\n1: ld 2, 24(1)",
}


@pytest.mark.parametrize("call", NOT_CALLS.values(), ids=NOT_CALLS)
def test_a_save_and_a_restore_do_not_make_a_right_call(tmp_path: Path, call: str) -> None:
    body = f".frame\n std 2, 24(1)\n {call}\n .unframe"
    proof = prove_change(tmp_path, assemble(tmp_path, TRAMPOLINES + function(body)))
    assert (states(proof.sites), proof.sites[0].right) == (["left"], False)


def test_the_path_through_a_thunk_is_followed(tmp_path: Path) -> None:
    body = f".frame\n std 2, 24(1)\n bl __SCT__x\n mr 3, 4\n {CALL} .unframe"
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    first, second = calls(before)
    proof = prove_change(tmp_path, before, with_thunk(before, first), restored([second]))
    assert (states(proof.sites), proof.errors) == (["thunk", "saved"], ())
    assert f"(.text+{first:#x})" in proof.sites[1].why
