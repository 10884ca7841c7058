"""The proof on the cases of the rewriter's analysis: the two must say the same of each.

Every call is restored without a stub here, as if r2 were saved. The proof has to agree where the
rewriter does, and to see the fault in all the others.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bigendian import prove_both
from tests.saved.test_changeable import CASES, FORMS, INLINE_PLT, feature, source
from tests.saved.test_jump_tables import CASES as TABLES
from tests.saved.test_jump_tables import SWITCH
from tests.saved.test_saved import BARE, CALL, NEIGHBOUR, SAVE, Case
from tests.saved.test_saved import CASES as PLAIN
from tests.tools import CLANG, CROSS, assemble, compile_c, rewritten, run
from tests.verifier.proof.support import Change, calls, describe, prove_change, restored
from tests.verifier.proof.support import states as proven


def forced(tmp_path: Path, path: Path) -> tuple[set[str], str]:
    """The states and errors where every call is restored without a stub."""
    elf = describe(path)
    proof = prove_change(tmp_path, elf, restored(calls(elf)))
    return set(proven(proof.sites)), " ".join(proof.errors)


@pytest.mark.parametrize("name", CASES)
def test_what_may_be_changed(tmp_path: Path, name: str) -> None:
    states, errors = forced(tmp_path, assemble(tmp_path, source({name: CASES[name]})))
    if CASES[name].want == "saved":
        assert (states, errors) == ({"saved"}, "")
    else:
        assert states == {"wrong"}
        assert "SCP240" not in CASES[name].want or "patches the call and its restore" in errors


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_table_of_patches_that_is_not_understood(tmp_path: Path, form: str) -> None:
    case = Case("0: nop\n1: nop\n" + form + SAVE + CALL, "")
    states, errors = forced(tmp_path, assemble(tmp_path, source({"f": case})))
    assert states == {"wrong"}
    assert "has an unknown form" in errors


@pytest.mark.parametrize("code", [code for code, _ in TABLES.values()], ids=TABLES)
def test_an_entry_through_a_table(tmp_path: Path, code: str) -> None:
    states, errors = forced(tmp_path, assemble(tmp_path, code))
    assert states == {"wrong"}
    assert "taken in .rodata" in errors


MORE = {name for name in PLAIN if name.startswith("r2_")} - {
    "r2_by_lmw",
    "r2_by_lq",
    "r2_by_slbfee",
    "r2_read_only",
}
MORE |= {f"indirect_call_{how}" for how in ("not_restored", "by_lr", "by_tar")}
MORE |= {"conditional_indirect_call", "call_that_needs_no_r2", "restored_from_another_slot"}
MORE |= {"a_real_ori", "an_ori_from_another_register"}
"""24(r1) holds the function's r2 and r2 something else: the restore is right, and nobody knows for
what the call was made."""

ONE_CALL = {name: case for name, case in (PLAIN | BARE).items() if " " not in case.want}


@pytest.mark.parametrize("name", ONE_CALL)
def test_a_case_of_the_analysis(tmp_path: Path, name: str) -> None:
    """What the rewriter takes for saved the proof shows; what it does not may be shown as well."""
    case = ONE_CALL[name]
    if name in BARE:
        code = f"TOC {name}\n{case.body.replace('middle:', '.Lmiddle:')}\nEND {name}\n"
        code += NEIGHBOUR if "middle:" in case.body else ""
    else:
        code = f"FRAME {name}\n{case.body}\nLEAVE {name}\n"
    states, errors = forced(tmp_path, assemble(tmp_path, code))
    if case.want == "saved":
        assert (states, errors) == ({"saved"}, "")
    else:
        assert states == ({"saved"} if name in MORE else {"wrong"})


def agree(path: Path, **choices: object) -> list[str]:
    """What becomes of the calls of an object, when the proof has nothing against it."""
    new = rewritten(path, **choices)
    proof = prove_both(path, new)
    assert proof.errors == ()
    return proven(proof.sites)


def test_the_save_of_an_inline_plt_call(tmp_path: Path) -> None:
    path = compile_c(tmp_path, INLINE_PLT, "-O2")
    assert agree(path, undefined="rewrite") == ["stub"]
    states, errors = forced(tmp_path, path)
    assert states == {"wrong"}
    assert "is foreign after" in errors or "r1 changes" in errors


def test_an_ordinary_switch_of_clang(tmp_path: Path) -> None:
    path = compile_c(tmp_path, SWITCH, "-O2", compiler=CLANG)
    assert agree(path, undefined="rewrite") == ["stub"] * 4


SIBLING = """
extern long __SCT__a(long), __SCT__b(long, long);
extern long g, (*fp)(long);
__attribute__((noinline)) long loc(long x) { g++; return x * 3 + g; }
long f(long x)
{
        long r = fp(x);
        g += r;
        if (r > 3) {
                g += __SCT__a(x);
                return loc(r);
        }
        g ^= __SCT__a(r);
        g ^= __SCT__b(r, x) * 3;
        return __SCT__a(g) + g;
}
"""


def test_the_zero_behind_a_sibling_call_of_clang(tmp_path: Path) -> None:
    path = compile_c(tmp_path, SIBLING, "-O2", compiler=CLANG)
    assert "00 00 00 00" in run(CROSS + "objdump", "-dz", path).stdout
    assert agree(path, undefined="rewrite") == ["saved"] * 4


@pytest.mark.parametrize("size", [0x7FFFFFFFFFFFFFF0, 1 << 63, (1 << 64) - 4])
def test_a_function_that_is_larger_than_its_section(tmp_path: Path, size: int) -> None:
    code = "FRAME f\n" + SAVE + CALL + "LEAVE f\n"
    path = assemble(tmp_path, code.replace("LEAVE f", f"LEAVE f\n .size f, {size}"))
    assert agree(path, undefined="rewrite") == ["saved"]
    assert agree(path, undefined="rewrite", hoist="kernel") == ["saved"]


def test_a_call_in_a_feature_section_and_one_behind_it(tmp_path: Path) -> None:
    """The first call and its restore come and go together, and r2 is right without them as well."""
    case = Case(SAVE + "1: " + CALL + "2: " + CALL + feature("__ftr_fixup"), "")
    path = assemble(tmp_path, source({"f": case}))
    assert agree(path, undefined="rewrite") == ["saved", "saved"]


@pytest.mark.parametrize("hoist", ["auto", "kernel"])
def test_all_cases_in_one_object(tmp_path: Path, hoist: str) -> None:
    """Whatever the rewriter makes of them, the proof agrees."""
    path = assemble(tmp_path, source(CASES))
    new = rewritten(path, undefined="rewrite", hoist=hoist)
    proof = prove_both(path, new, for_kernel=hoist == "kernel")
    assert proof.errors == ()
    assert {"saved", "stub", "left"} <= set(proven(proof.sites))


def test_an_exception_table(tmp_path: Path) -> None:
    """The unwinder may enter the function where no branch leads."""
    case = Case(SAVE + "bctr\n" + CALL + '.section .gcc_except_table, "a"\n .long 0\n .text\n', "")
    path = assemble(tmp_path, source({"f": case}))
    assert agree(path, undefined="rewrite") == ["stub"]
    states, errors = forced(tmp_path, path)
    assert states == {"wrong"}
    assert "exception table" in errors


@pytest.mark.parametrize("where", ["__jump_table", "__mcount_loc"])
def test_a_load_from_the_paca_in_a_nop_that_is_patched(tmp_path: Path, where: str) -> None:
    entry = ".long 1b-., 1b-." if where == "__jump_table" else ""
    body = f'bl __SCT__x\n1: nop\n.section {where}, "aw"\n {entry}\n .quad 1b\n .text\n'
    elf = describe(assemble(tmp_path, source({"f": Case(body, "")})))
    (site,) = calls(elf)
    proof = prove_change(tmp_path, elf, Change(words={site + 4: 0xE84D0010}))
    assert proven(proof.sites) == ["wrong"]
    assert "apart" in proof.errors[0]
