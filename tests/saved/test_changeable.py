"""Instructions that are not what their words say: a linker or the kernel may change them.

One function to a case, as in `test_saved`; what is expected stands beside the code. All cases are
assembled into one object but those of tables that spoil it as a whole.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.saved.test_saved import CALL, SAVE, Case
from tests.tools import CROSS, assemble, compile_c, run, states

RELOC = ".reloc ., R_PPC64_{}, ext\n"
PUSH = "mflr 0\n std 0, 16(1)\n stdu 1, -64(1)\n"
LEAVE = "addi 1, 1, 64\n ld 0, 16(1)\n mtlr 0\n blr\n"


def table(name: str, *entries: str) -> str:
    return f'.section {name}, "a"\n .balign 8\n' + "\n".join(entries) + "\n .text\n"


def feature(name: str, alternative: str = "") -> str:
    """A feature section from label 1 to label 2, as MAKE_FTR_SECTION_ENTRY of Linux makes it."""
    code = f'.section __ftr_alt_97, "a"\n .balign 4\n3: {alternative}\n4: .text\n'
    return code + table(name, "5: .quad 1, 1, 1b-5b, 2b-5b, 3b-5b, 4b-5b")


LINKER = {
    "plt_sequence": Case(RELOC.format("PLTSEQ") + SAVE + CALL, "rewrite"),
    "plt_sequence_notoc": Case(RELOC.format("PLTSEQ_NOTOC") + SAVE + CALL, "rewrite"),
    "plt_sequence_and_a_save": Case(
        RELOC.format("PLTSEQ") + SAVE + SAVE + CALL, "saved"
    ),
    "no_relocation": Case(RELOC.format("NONE") + SAVE + CALL, "saved"),
    "inline_plt_call": Case(
        SAVE + RELOC.format("PLTCALL") + "bctrl\n ld 2, 24(1)\n" + SAVE + CALL, "rewrite"
    ),
    "call_of_a_weak_symbol": Case(
        "cmpdi 3, 0\n beq 2f\n" + SAVE + "b 3f\n2: b nowhere\n3:" + CALL, "rewrite"
    ),
    "branch_to_a_defined_symbol": Case(
        "cmpdi 3, 0\n beq 2f\n" + SAVE + "b 3f\n2: b somewhere\n3:" + CALL, "saved"
    ),
    "tls_call": Case(
        "cmpdi 3, 0\n beq 2f\n" + SAVE + "b 3f\n2:" + RELOC.format("TLSGD") + "b 4f\n3:" + CALL
        + "4:", "rewrite",
    ),
    "second_word_of_a_pair": Case(
        ".reloc ., R_PPC64_PCREL_OPT, 4\n nop\n" + SAVE + CALL, "rewrite"
    ),
    "save_by_the_linker": Case(
        SAVE + "bctrl\n .reloc ., R_PPC64_TOCSAVE, .text\n nop\n ld 2, 24(1)\n" + CALL, "rewrite"
    ),
    "save_by_the_linker_of_the_own": Case(
        SAVE + ".reloc ., R_PPC64_TOCSAVE, .text\n nop\n" + CALL, "saved"
    ),
    "displacement_by_the_linker": Case(
        SAVE + RELOC.format("ADDR16_LO_DS") + "std 5, 0(1)\n" + CALL, "rewrite"
    ),
    "displacement_from_another_register": Case(
        SAVE + RELOC.format("ADDR16_LO_DS") + "std 5, 0(9)\n" + CALL, "saved"
    ),
    "zero_after_a_branch": Case(SAVE + "b 1f\n .long 0\n1:" + CALL, "saved"),
    "zero_is_no_way": Case(
        "cmpdi 3, 0\n beq 2f\n" + SAVE + "b 3f\n2: .long 0\n3:" + CALL, "saved"
    ),
    "data_that_is_zero_before_the_link": Case(
        "cmpdi 3, 0\n beq 2f\n" + SAVE + "b 3f\n2: .quad ext\n3:" + CALL, "rewrite"
    ),
}  # fmt: skip

KERNEL = {
    "save_at_a_static_branch": Case(
        "1: " + SAVE + "2:" + CALL + table("__jump_table", ".long 1b-., 2b-.", ".quad 0"), "rewrite"
    ),
    "static_branch_that_is_on": Case(
        "cmpdi 3, 0\n beq 2f\n" + SAVE + "b 3f\n2: b 4f\n3:" + CALL + "4:"
        + table("__jump_table", ".long 2b-., 4b-.", ".quad 0"), "rewrite",
    ),
    "save_that_ftrace_patches": Case(
        "1: " + SAVE + CALL + table("__mcount_loc", ".quad 1b"), "rewrite"
    ),
    "save_in_a_patchable_entry": Case(
        "1: " + SAVE + CALL + table("__patchable_function_entries", ".quad 1b"), "rewrite"
    ),
    "frame_in_a_feature": Case(
        "addi 1, 1, 64\n1: stdu 1, -64(1)\n2:" + SAVE + CALL + feature("__ftr_fixup"), "saved"
    ),
    "save_in_a_feature": Case("1: " + SAVE + "2:" + CALL + feature("__ftr_fixup"), "rewrite"),
    "save_in_a_feature_of_the_mmu": Case(
        "1: nop\n" + SAVE + "2:" + CALL + feature("__mmu_ftr_fixup"), "rewrite"
    ),
    "save_in_a_feature_of_the_firmware": Case(
        "1: nop\n" + SAVE + "2:" + CALL + feature("__fw_ftr_fixup"), "rewrite"
    ),
    "save_before_a_feature": Case(
        SAVE + "1: nop\n nop\n2:" + CALL + feature("__ftr_fixup", "wait"), "saved"
    ),
    "save_after_a_feature": Case(
        "1: nop\n2:" + SAVE + CALL + feature("__ftr_fixup", "mr 5, 6"), "saved"
    ),
    "alternative_that_overwrites": Case(
        SAVE + "1: nop\n2:" + CALL + feature("__ftr_fixup", "std 5, 24(1)"), "rewrite"
    ),
    "alternative_that_moves_r1": Case(
        SAVE + "1: nop\n2:" + CALL + feature("__mmu_ftr_fixup", "addi 1, 1, -32"), "rewrite"
    ),
    "alternative_with_a_branch": Case(
        SAVE + "1: nop\n2:" + CALL + feature("__fw_ftr_fixup", "bl somewhere"), "rewrite"
    ),
    "way_that_may_be_open": Case(
        "cmpdi 3, 0\n beq 1f\n" + SAVE + "b 3f\n1: blr\n2:\n3:" + CALL + feature("__ftr_fixup"),
        "rewrite",
    ),
    "save_at_a_barrier": Case(
        "1:" + SAVE + CALL + table("__lwsync_fixup", "5: .quad 1b-5b"), "rewrite"
    ),
    "save_after_the_start_of_a_barrier": Case(
        "1: nop\n nop\n nop\n nop\n nop\n" + SAVE + CALL
        + table("__stf_exit_barrier_fixup", "5: .quad 1b-5b"), "rewrite",
    ),
    "save_after_a_barrier": Case(
        "1: nop\n nop\n" + SAVE + CALL + table("__barrier_nospec_fixup", "5: .quad 1b-5b"), "saved"
    ),
    "save_that_a_flush_replaces": Case(
        "1: nop\n nop\n nop\n" + SAVE + "2:" + CALL
        + table("__btb_flush_fixup", "5: .quad 1b-5b, 2b-5b"), "rewrite",
    ),
    "save_after_a_flush": Case(
        "1: nop\n2:" + SAVE + CALL + table("__btb_flush_fixup", "5: .quad 1b-5b, 2b-5b"), "saved"
    ),
    "call_and_nop_patched_apart": Case(
        "1: bl __SCT__x\n2: nop\n" + feature("__ftr_fixup"), "refused SCP240"
    ),
    "nop_in_a_feature": Case(
        "bl __SCT__x\n1: nop\n2: " + feature("__ftr_fixup"), "refused SCP240"
    ),
    "nop_of_a_static_branch": Case(
        "bl __SCT__x\n1: nop\n2: " + table("__jump_table", ".long 1b-., 2b-.", ".quad 0"),
        "refused SCP240",
    ),
    "call_and_nop_patched_together": Case(
        SAVE + "1: bl __SCT__x\n nop\n2: " + feature("__ftr_fixup"), "saved"
    ),
    "after_a_call_that_may_be_a_nop": Case(
        "1: bl __SCT__x\n nop\n2: " + CALL + feature("__ftr_fixup"), "rewrite rewrite"
    ),
    "restart": Case(
        SAVE + "1: nop\n2: addi 3, 3, 1\n3:" + CALL
        + table("__restart_table", ".quad 1b, 2b, 3b"), "rewrite",
    ),
    "start_of_a_restart": Case(
        SAVE + "1: nop\n2:" + CALL + "3:" + table("__restart_table", ".quad 1b, 2b, 3b"), "saved"
    ),
    "soft_mask": Case(
        SAVE + "1: nop\n2:" + CALL + table("__soft_mask_table", ".quad 1b, 2b"), "saved"
    ),
    "blacklist": Case(SAVE + "1:" + CALL + table("_kprobe_blacklist", ".quad 1b"), "saved"),
    "discarded": Case(SAVE + "1:" + CALL + table(".discard.reachable", ".long 1b-."), "saved"),
}  # fmt: skip

CASES = LINKER | KERNEL


def source(cases: dict[str, Case]) -> str:
    parts = [f"TOC {name}\n{PUSH}{case.body}\n{LEAVE}END {name}\n" for name, case in cases.items()]
    return ".weak nowhere\n" + "".join(parts) + "FUNC somewhere\n blr\nEND somewhere\n"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    path = assemble(tmp_path_factory.mktemp("changeable"), source(CASES))
    return states(path, undefined="rewrite")


@pytest.mark.parametrize("name", CASES)
def test_changeable(name: str, results: dict[str, list[str]]) -> None:
    assert " ".join(results[name]) == CASES[name].want


FORMS = {
    "an unknown table": table("__new_fixup", "5: .quad 1b-5b"),
    "a table with another form": table("__ftr_fixup", "5: .quad 1b-5b"),
    "absolute addresses": table("__lwsync_fixup", ".quad 1b"),
    "a range that ends before it starts": table("__btb_flush_fixup", "5: .quad 1b-5b, 0b-5b"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_table_of_patches_that_is_not_understood(tmp_path: Path, form: str) -> None:
    """Nothing in the object is known to be saved: the table may name any of its instructions."""
    cases = {"other": Case(SAVE + CALL, "rewrite"), "f": Case("0: nop\n1: nop\n" + form + CALL, "")}
    path = assemble(tmp_path, source(cases))
    assert states(path, undefined="rewrite") == {"other": ["rewrite"], "f": ["rewrite"]}


INLINE_PLT = """
extern long __SCT__a(long);
extern long ext(long) __attribute__((longcall));
extern long g, use(char *);
long f(long n)
{
        char *p = __builtin_alloca(n);
        use(p);
        return ext(n) + __SCT__a(n) + g + p[0];
}
"""


def test_the_save_of_an_inline_plt_call(tmp_path: Path) -> None:
    """GNU ld makes a nop of it where the callee is in the same unit: here it is shown to."""
    path = compile_c(tmp_path, INLINE_PLT, "-O2")
    assert states(path, undefined="rewrite") == {"f": ["rewrite"]}
    more = "long g; long use(char *p) { return *p; } long ext(long x) { return x; }"
    more += "long __SCT__a(long x) { return x; } int main(void) { return 0; }"
    other = compile_c(tmp_path, more, "-O2", name="other.o")
    program = tmp_path / "program"
    run(CROSS + "ld", "-e", "main", "-o", program, path, other)
    assert "std     r2,24(r1)" in run(CROSS + "objdump", "-d", path).stdout
    assert "std     r2,24(r1)" not in run(CROSS + "objdump", "-d", program).stdout
