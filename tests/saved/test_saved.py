"""Where r2 counts as saved already: control flow written by hand, one function to a case.

Every case has sites in order; what is expected of them stands next to the code. All cases
are assembled into one object, so that they also see each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools import assemble, states


@dataclass(frozen=True)
class Case:
    body: str
    want: str
    """Space-separated states of the sites in code order."""


CALL = "CALL __SCT__x\n"
SAVE = "std 2, 24(1)\n"

CASES = {
    "straight": Case(SAVE + CALL, "saved"),
    "no_save": Case(CALL, "rewrite"),
    "twice": Case(SAVE + CALL + CALL, "saved saved"),
    "saved_by_the_stub_of_the_call_before": Case(CALL + CALL, "rewrite saved"),
    "saved_by_a_stub_on_one_path": Case(
        "cmpdi 3, 0\n beq 1f\n" + CALL + "1:" + CALL, "rewrite rewrite"
    ),
    "save_after_the_call": Case(CALL + SAVE, "rewrite"),
    "one_path": Case("cmpdi 3, 0\n beq 1f\n" + SAVE + "1:" + CALL, "rewrite"),
    "both_paths": Case(
        "cmpdi 3, 0\n beq 1f\n" + SAVE + "b 2f\n1:" + SAVE + "2:" + CALL, "saved"
    ),
    "save_late_in_a_loop": Case(
        "mtctr 4\n1:" + CALL + SAVE + "bdnz 1b\n", "rewrite"
    ),
    "save_early_in_a_loop": Case("mtctr 4\n1:" + SAVE + CALL + "bdnz 1b\n", "saved"),
    "save_before_a_loop": Case(SAVE + "mtctr 4\n1:" + CALL + "bdnz 1b\n", "saved"),
    "loop_entered_in_the_middle": Case(
        "b 2f\n1:" + SAVE + "2:" + CALL + "cmpdi 3, 0\n bne 1b\n", "rewrite"
    ),
    "frame_popped_and_pushed": Case(
        SAVE + "addi 1, 1, 64\n stdu 1, -64(1)\n" + CALL, "rewrite"
    ),
    "frame_popped_by_load": Case(SAVE + "ld 1, 0(1)\n stdu 1, -64(1)\n" + CALL, "rewrite"),
    "frame_from_a_register": Case(SAVE + "mr 1, 31\n" + CALL, "rewrite"),
    "second_frame": Case(SAVE + "stdu 1, -64(1)\n" + CALL + "addi 1, 1, 64\n", "rewrite"),
    "second_frame_saved": Case(
        SAVE + "stdu 1, -64(1)\n" + SAVE + CALL + "addi 1, 1, 64\n", "saved"
    ),
    "alloca_by_stdux": Case(SAVE + "stdux 1, 1, 9\n" + CALL, "rewrite"),
    "alloca_then_save": Case("stdux 1, 1, 9\n" + SAVE + CALL, "saved"),
    "stwu_moves_r1": Case(SAVE + "stwu 3, -64(1)\n" + CALL, "rewrite"),
    "lbzu_moves_r1": Case(SAVE + "lbzu 3, -64(1)\n" + CALL, "rewrite"),
    "ldux_moves_r1": Case(SAVE + "ldux 3, 1, 9\n" + CALL, "rewrite"),
    "lfdu_moves_r1": Case(SAVE + "lfdu 3, 8(1)\n" + CALL, "rewrite"),
    "stfdux_moves_r1": Case(SAVE + "stfdux 3, 1, 9\n" + CALL, "rewrite"),
    "update_of_another_register": Case(SAVE + "ldu 3, 8(31)\n stdu 3, 8(30)\n" + CALL, "saved"),
    "by_a_frame_register": Case(SAVE + "mr 31, 1\n std 3, 24(31)\n" + CALL, "rewrite"),
    "by_one_that_is_r1_and_more": Case(
        SAVE + "addi 9, 1, 32\n std 3, -8(9)\n" + CALL, "rewrite"
    ),
    "by_a_copy_of_one": Case(SAVE + "mr 31, 1\n mr 30, 31\n std 3, 24(30)\n" + CALL, "rewrite"),
    "by_a_copy_that_ori_makes": Case(
        SAVE + "ori 31, 1, 0\n std 3, 24(31)\n" + CALL, "rewrite"
    ),
    "by_half_of_a_copy": Case(SAVE + "mr 31, 1\n stw 3, 28(31)\n" + CALL, "rewrite"),
    "by_a_wide_store_of_a_copy": Case(SAVE + "mr 31, 1\n stxv 3, 16(31)\n" + CALL, "rewrite"),
    "by_a_copy_with_an_index": Case(SAVE + "mr 31, 1\n stdx 3, 31, 9\n" + CALL, "rewrite"),
    "by_a_copy_as_an_index": Case(SAVE + "mr 31, 1\n stbx 3, 9, 31\n" + CALL, "rewrite"),
    "by_a_copy_with_update": Case(SAVE + "mr 31, 1\n stdu 3, 8(31)\n" + CALL, "rewrite"),
    "by_a_copy_that_is_set_elsewhere": Case(
        SAVE + "std 3, 24(31)\n" + CALL + "mr 31, 1\n", "rewrite"
    ),
    "by_a_copy_in_the_prefixed_way": Case(
        ".machine push\n.machine power10\n paddi 31, 1, 0x12344\n.machine pop\n" + SAVE
        + "std 3, 0x40(31)\n" + CALL, "rewrite"
    ),
    "beside_the_slot_by_a_copy": Case(
        SAVE + "mr 31, 1\n std 3, 32(31)\n stw 3, 20(31)\n stb 3, 23(31)\n" + CALL, "saved"
    ),
    "variables_by_a_copy": Case(
        SAVE + "addi 9, 1, 32\n std 3, 0(9)\n stdx 3, 9, 8\n stdu 3, 8(9)\n"
        "addi 10, 1, 31\n stbu 3, 1(10)\n" + CALL, "saved"
    ),
    "the_register_of_no_copy": Case(
        SAVE + "addi 31, 9, 8\n mr 30, 9\n std 3, 24(31)\n std 3, 24(30)\n" + CALL, "saved"
    ),
    "a_load_by_a_copy": Case(SAVE + "mr 31, 1\n ld 3, 24(31)\n lxv 3, 16(31)\n" + CALL, "saved"),
    "indirect_call_then_restored": Case(
        SAVE + "bctrl\n ld 2, 24(1)\n" + CALL, "saved"
    ),
    "indirect_call_not_restored": Case(SAVE + "bctrl\n" + CALL, "rewrite"),
    "indirect_call_by_lr": Case(SAVE + "blrl\n" + CALL, "rewrite"),
    "indirect_call_by_tar": Case(SAVE + ".long 0x4e800461\n" + CALL, "rewrite"),
    "conditional_indirect_call": Case(SAVE + "beqctrl\n" + CALL, "rewrite"),
    "restored_from_another_slot": Case(SAVE + "bctrl\n ld 2, 32(1)\n" + CALL, "rewrite"),
    "foreign_r2_saved": Case("bctrl\n" + SAVE + CALL, "rewrite"),
    "foreign_r2_saved_and_loaded": Case("bctrl\n" + SAVE + "ld 2, 24(1)\n" + CALL, "rewrite"),
    "call_with_foreign_r2": Case(
        SAVE + "bctrl\n bl other\n nop\n ld 2, 24(1)\n" + CALL, "rewrite"
    ),
    "call_of_another_function": Case(SAVE + "bl other\n nop\n" + CALL, "saved"),
    "call_that_needs_no_r2": Case(SAVE + "bl other@notoc\n" + CALL, "rewrite"),
    "call_that_needs_no_r2_restored": Case(
        SAVE + "bl other@notoc\n ld 2, 24(1)\n" + CALL, "saved"
    ),
    "r2_loaded": Case(SAVE + "ld 2, 8(9)\n" + CALL, "rewrite"),
    "r2_computed": Case(SAVE + "addi 2, 2, 8\n" + CALL, "rewrite"),
    "r2_moved": Case(SAVE + "mr 2, 9\n" + CALL, "rewrite"),
    "r2_from_a_special_register": Case(SAVE + "mflr 2\n" + CALL, "rewrite"),
    "r2_from_the_condition": Case(SAVE + "mfcr 2\n" + CALL, "rewrite"),
    "r2_by_cmpb": Case(SAVE + "cmpb 2, 3, 4\n" + CALL, "rewrite"),
    "r2_by_slbmfee": Case(SAVE + "slbmfee 2, 3\n" + CALL, "rewrite"),
    "r2_by_slbmfev": Case(SAVE + "slbmfev 2, 3\n" + CALL, "rewrite"),
    "r2_by_slbfee": Case(SAVE + "slbfee. 2, 3\n" + CALL, "rewrite"),
    "r2_by_update": Case(SAVE + "ldu 3, 8(2)\n" + CALL, "rewrite"),
    "r2_by_isel": Case(SAVE + "isel 2, 3, 4, 2\n" + CALL, "rewrite"),
    "r2_from_a_vector_register": Case(SAVE + "mfvsrd 2, 34\n" + CALL, "rewrite"),
    "r2_by_lmw": Case(SAVE + ".long 0xb8410008\n" + CALL, "rewrite"),
    "r2_by_lq": Case(SAVE + ".long 0xe0490000\n" + CALL, "rewrite"),
    "r2_by_darn": Case(SAVE + "darn 2, 1\n" + CALL, "rewrite"),
    "r2_by_addpcis": Case(SAVE + "addpcis 2, 0\n" + CALL, "rewrite"),
    "r2_read_only": Case(
        SAVE + "mr 9, 2\n addi 9, 2, 8\n cmpd 2, 3\n mtctr 2\n std 2, 40(1)\n tdeqi 2, 0\n" + CALL,
        "saved",
    ),
    "padding": Case(SAVE + "ori 2, 2, 0\n ori 1, 1, 0\n or 2, 2, 2\n" + CALL, "saved"),
    "a_real_ori": Case(SAVE + "ori 2, 2, 1\n" + CALL, "rewrite"),
    "an_ori_from_another_register": Case(SAVE + "ori 2, 9, 0\n" + CALL, "rewrite"),
    "padding_after_a_return": Case(
        SAVE + "cmpdi 3, 0\n beq 1f\n blr\n ori 2, 2, 0\n nop\n1:" + CALL, "saved"
    ),
    "conditional_return": Case(SAVE + "cmpdi 3, 0\n beqlr\n" + CALL, "saved"),
    "conditional_return_first": Case("cmpdi 3, 0\n beqlr\n" + SAVE + CALL, "saved"),
    "pic_trick": Case(SAVE + "bcl 20, 31, 1f\n1: mflr 9\n" + CALL, "saved"),
    "subroutine_inside": Case(
        "bl 1f\n" + SAVE + "1: mflr 9\n" + CALL, "rewrite"
    ),
    "conditional_subroutine_inside": Case(
        "bcl 12, 2, 1f\n" + SAVE + "1: mflr 9\n" + CALL, "rewrite"
    ),
    "recursion": Case(SAVE + "bl recursion\n nop\n" + CALL, "saved"),
    "slot_overwritten": Case(SAVE + "std 5, 24(1)\n" + CALL, "rewrite"),
    "slot_overwritten_by_word": Case(SAVE + "stw 5, 28(1)\n" + CALL, "rewrite"),
    "slot_overwritten_by_byte": Case(SAVE + "stb 2, 31(1)\n" + CALL, "rewrite"),
    "slot_overwritten_from_below": Case(SAVE + "stxvd2x 34, 1, 9\n" + CALL, "rewrite"),
    "slot_overwritten_by_vector": Case(SAVE + "stxv 34, 16(1)\n" + CALL, "rewrite"),
    "slot_overwritten_by_index": Case(SAVE + "stdx 5, 1, 9\n" + CALL, "rewrite"),
    "slot_overwritten_by_other_index": Case(SAVE + "stbx 5, 9, 1\n" + CALL, "rewrite"),
    "slot_overwritten_by_rare_index": Case(SAVE + "stwcix 5, 9, 1\n" + CALL, "rewrite"),
    "slot_overwritten_by_update": Case(SAVE + "stdux 5, 9, 1\n" + CALL, "rewrite"),
    "r1_as_an_operand": Case(SAVE + "add 9, 10, 1\n or 9, 10, 1\n ldx 9, 10, 1\n" + CALL, "saved"),
    "slot_overwritten_by_float": Case(SAVE + "stfd 5, 24(1)\n" + CALL, "rewrite"),
    "slot_overwritten_by_stmw": Case(SAVE + ".long 0xbc01ffc0\n" + CALL, "rewrite"),
    "slot_overwritten_by_stswi": Case(SAVE + ".long 0x7ca105aa\n" + CALL, "rewrite"),
    "slot_zeroed": Case(SAVE + "dcbz 0, 1\n" + CALL, "rewrite"),
    "neighbours_written": Case(SAVE + "std 5, 16(1)\n std 5, 32(1)\n" + CALL, "saved"),
    "negative_offset_written": Case(SAVE + "std 5, -8(1)\n" + CALL, "saved"),
    "prefixed_load_of_r2": Case(SAVE + "pld 2, 0x12345678(9)\n" + CALL, "rewrite"),
    "prefixed_store_to_the_slot": Case(SAVE + "pstd 5, 24(1)\n" + CALL, "rewrite"),
    "prefixed_before_the_save": Case("pld 9, 0x12345678(9)\n" + SAVE + CALL, "rewrite"),
    "unknown_word": Case(SAVE + ".long 0x00000123\n" + CALL, "rewrite"),
    "unknown_word_before_the_save": Case(".long 0x00000123\n" + SAVE + CALL, "rewrite"),
    "unreached_code": Case(SAVE + "b 1f\n addi 3, 3, 1\n1:" + CALL, "rewrite"),
    "stop_and_go_on": Case(
        "cmpdi 3, 0\n beq 2f\n stop\n1:" + CALL + "b 3f\n2:" + SAVE + "b 1b\n3:", "rewrite"
    ),
    "switch": Case(
        SAVE
        + "bctr\n1: b 3f\n2: addi 3, 3, 1\n3:"
        + CALL
        + ".section .rodata\n .balign 8\n4: .long 1b-4b\n .long 2b-4b\n .previous\n",
        "rewrite",
    ),
    "computed_jump_saved": Case(SAVE + "bctr\n addi 3, 3, 1\n" + CALL, "saved"),
    "computed_jump_before_the_save": Case("bctr\n addi 3, 3, 1\n" + SAVE + CALL, "rewrite"),
    "computed_jump_on_one_path": Case(
        "cmpdi 3, 0\n beq 1f\n bctr\n1:" + SAVE + CALL, "rewrite"
    ),
    "subroutine_beside_a_computed_jump": Case(
        "bl 1f\n" + SAVE + "bctr\n1: mflr 9\n" + CALL, "rewrite"
    ),
    "stop_beside_a_computed_jump": Case(
        "cmpdi 3, 0\n beq 1f\n stop\n" + CALL + "b 2f\n1:" + SAVE + "bctr\n2:", "rewrite"
    ),
    "jump_label_to_unsaved": Case(
        "7: nop\n" + SAVE + "8:" + CALL
        + '.section __jump_table, "aw"\n .long 7b-., 8b-.\n .quad other-.\n .previous\n',
        "rewrite",
    ),
    "jump_label_to_saved": Case(
        SAVE + "7: nop\n addi 3, 3, 1\n8:" + CALL
        + '.section __jump_table, "aw"\n .long 7b-., 8b-.\n .quad other-.\n .previous\n',
        "saved",
    ),
    "jump_label_in_an_absolute_table": Case(
        "7: nop\n" + SAVE + "8:" + CALL
        + '.section __jump_table, "aw"\n .quad 7b, 8b, other\n .quad 0\n .previous\n',
        "rewrite",
    ),
    "fault_to_unsaved": Case(
        "7: ld 9, 0(3)\n" + SAVE + "8:" + CALL
        + '.section __ex_table, "a"\n .long 7b-., 8b-.\n .previous\n',
        "rewrite",
    ),
    "fault_to_saved": Case(
        SAVE + "7: ld 9, 0(3)\n addi 3, 3, 1\n8:" + CALL
        + '.section __ex_table, "a"\n .long 7b-., 8b-.\n .previous\n',
        "saved",
    ),
    "fault_in_another_section": Case(
        SAVE + "addi 3, 3, 1\n8:" + CALL
        + '.section .text.elsewhere, "ax"\n7: ld 9, 0(3)\n blr\n .previous\n'
        + '.section __ex_table, "a"\n .long 7b-., 8b-.\n .previous\n',
        "rewrite",
    ),
    "label_taken": Case(
        SAVE + "8:" + CALL + ".data\n .quad 8b\n .text\n", "rewrite"
    ),
    "label_marked": Case(
        SAVE + "8:" + CALL + '.section __bug_table, "aw"\n .quad 8b\n .text\n', "saved"
    ),
    "branch_from_another_section": Case(
        SAVE + "8:" + CALL + '.section .text.cold, "ax"\n b 8b\n .text\n', "rewrite"
    ),
    "second_symbol_inside": Case(
        SAVE + ".globl inner\ninner:" + CALL, "rewrite"
    ),
    "saved_in_the_callers_frame": Case("std 2, 88(1)\n" + CALL, "rewrite"),
}  # fmt: skip
"""Where a local label is branched to from elsewhere, the numbers 7 and 8 mark it."""

BARE = {
    "shrink_wrapped": Case(
        "cmpdi 3, 0\n beqlr\n mflr 0\n std 0, 16(1)\n stdu 1, -64(1)\n" + SAVE + CALL
        + "addi 1, 1, 64\n ld 0, 16(1)\n mtlr 0\n blr\n",
        "saved",
    ),
    "shrink_wrapped_save_outside": Case(
        SAVE + "mflr 0\n std 0, 16(1)\n stdu 1, -64(1)\n" + CALL
        + "addi 1, 1, 64\n ld 0, 16(1)\n mtlr 0\n blr\n",
        "rewrite",
    ),
    "entered_by_a_neighbour": Case(
        "mflr 0\n std 0, 16(1)\n stdu 1, -64(1)\n" + SAVE + "middle:" + CALL
        + "addi 1, 1, 64\n ld 0, 16(1)\n mtlr 0\n blr\n",
        "rewrite",
    ),
}  # fmt: skip

NEIGHBOUR = """
        TOC neighbour
        cmpdi 3, 0
        beq .Lmiddle
        blr
        END neighbour
"""


def _source() -> str:
    parts = []
    for name, case in CASES.items():
        parts.append(f"FRAME {name}\n{case.body}\nLEAVE {name}\n")
    for name, case in BARE.items():
        body = case.body.replace("middle:", ".Lmiddle:")
        parts.append(f"TOC {name}\n{body}\nEND {name}\n")
    return "".join(parts) + NEIGHBOUR


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return states(assemble(tmp_path_factory.mktemp("saved"), _source()), undefined="rewrite")


@pytest.mark.parametrize("name", [*CASES, *BARE])
def test_saved(name: str, results: dict[str, list[str]]) -> None:
    case = CASES.get(name) or BARE[name]
    assert " ".join(results[name]) == case.want


SAVED = "FRAME f\n std 2, 24(1)\nCALL __SCT__x\nLEAVE f\n"


@pytest.mark.parametrize(
    ("undefined", "want"), [("auto", "rewrite"), ("rewrite", "saved"), ("skip", "loader")]
)
def test_an_undefined_trampoline_may_be_the_loaders(
    tmp_path: Path, undefined: str, want: str
) -> None:
    """The module loader wants a nop, so a stub is made unless it is known to be an image."""
    path = assemble(tmp_path, SAVED)
    assert states(path, undefined=undefined) == {"f": [want]}


def test_a_module_that_the_loader_would_refuse(tmp_path: Path) -> None:
    module = '.section .gnu.linkonce.this_module, "aw"\n .quad 0\n'
    path = assemble(tmp_path, SAVED.replace("CALL __SCT__x", "bl __SCT__x\n ld 2, 24(1)") + module)
    assert states(path) == {"f": ["refused SCP213"]}
    assert states(path, undefined="rewrite") == {"f": ["refused SCP213"]}


@pytest.mark.parametrize(("module", "want"), [(True, "saved"), (False, "rewrite")])
def test_the_stub_of_the_module_loader_saves(tmp_path: Path, module: bool, want: str) -> None:
    """It stores r2 at a call of what the module does not define, and nothing else does here."""
    mark = '.section .gnu.linkonce.this_module, "aw"\n .quad 0\n' if module else ""
    code = "FRAME f\n bl printk\n nop\nCALL __SCT__x\nLEAVE f\nFUNC __SCT__x\n blr\nEND __SCT__x\n"
    assert states(assemble(tmp_path, code + mark), hoist="never") == {"f": [want]}
