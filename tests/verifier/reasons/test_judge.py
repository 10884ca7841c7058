"""What the proof says of each kind of call site."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.elfwriter import (
    BL,
    R_PPC64_REL24,
    STB_GLOBAL,
    STB_WEAK,
    B,
    build,
)
from tests.verifier.proof.support import (
    STUB,
    TRAMPOLINES,
    apply,
    assemble,
    calls,
    function,
    prove_change,
    prove_data,
    restored,
    states,
    text,
    with_stub,
    with_thunk,
)


def test_a_thunk_is_proven(tmp_path: Path) -> None:
    before = assemble(tmp_path, TRAMPOLINES + function(".frame\n bl __SCT__x\n mr 3, 4\n .unframe"))
    (site,) = calls(before)
    proof = prove_change(tmp_path, before, with_thunk(before, site))
    assert (proof.errors, states(proof.sites)) == ((), ["thunk"])
    assert proof.sites[0].resume == site + 4
    after = build(apply(before, with_thunk(before, site)))
    assert states(prove_data(tmp_path, after, after).sites) == ["done"]


@pytest.mark.parametrize("word", [BL, B | 4])
def test_a_thunk_is_branched_to(tmp_path: Path, word: int) -> None:
    before = assemble(tmp_path, TRAMPOLINES + function(".frame\n bl __SCT__x\n mr 3, 4\n .unframe"))
    (site,) = calls(before)
    change = with_thunk(before, site)
    wrong = prove_change(tmp_path, before, replace(change, words={site: word}))
    assert any("must be reached by b, not bl" in error for error in wrong.errors)


@pytest.mark.parametrize("at", range(0, 16, 4))
def test_each_word_of_a_thunk_counts(tmp_path: Path, at: int) -> None:
    before = assemble(tmp_path, TRAMPOLINES + function(".frame\n bl __SCT__x\n mr 3, 4\n .unframe"))
    (site,) = calls(before)
    change = with_thunk(before, site)
    code = bytearray(change.append)
    code[at + 1] ^= 8
    wrong = prove_change(tmp_path, before, replace(change, append=bytes(code)))
    assert any("r2 is wrong after it" in error for error in wrong.errors)


def test_a_thunk_serves_one_call(tmp_path: Path) -> None:
    body = ".frame\n bl __SCT__x\n mr 3, 4\n bl __SCT__x\n mr 3, 4\n .unframe"
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    sites = calls(before)
    change = with_thunk(before, sites[0])
    both = replace(
        change,
        words=dict.fromkeys(sites, B),
        retarget=dict.fromkeys(sites, change.symbols[0].name),
    )
    proof = prove_change(tmp_path, before, both)
    assert states(proof.sites) == ["thunk", "wrong"]
    assert "does not return to this call" in proof.errors[0]


MARKED = TRAMPOLINES.replace("__SCT__x: blr", "__SCT__x: .localentry __SCT__x, 1\n blr")


def test_calls_of_a_marked_trampoline_are_the_linkers(tmp_path: Path) -> None:
    before = assemble(tmp_path, MARKED + function(".frame\n bl __SCT__x\n nop\n .unframe"))
    proof = prove_change(tmp_path, before)
    assert (states(proof.sites), proof.sites[0].right) == (["linker"], True)
    assert proof.sites[0].trampoline_other == 0x20
    wrong = prove_change(tmp_path, before, with_stub(before, calls(before)))
    assert "no linker accepts a branch without nop" in wrong.errors[0]


def test_a_call_without_toc_needs_nothing(tmp_path: Path) -> None:
    source = TRAMPOLINES + function(".frame\n bl __SCT__x@notoc\n .unframe")
    before = assemble(tmp_path, ".machine power10\n" + source)
    proof = prove_change(tmp_path, before)
    assert (states(proof.sites), proof.sites[0].right) == (["notoc"], True)
    assert proof.sites[0].resume == proof.sites[0].offset + 4


MODULE = '\n.section .gnu.linkonce.this_module, "aw"\n.quad 0\n'


def test_calls_of_undefined_trampolines_are_the_module_loaders(tmp_path: Path) -> None:
    source = function(".frame\n bl __SCT__x\n nop\n .unframe")
    module = assemble(tmp_path, source + MODULE)
    proof = prove_change(tmp_path, module)
    assert (states(proof.sites), proof.sites[0].loader) == (["loader"], True)
    assert proof.sites[0].trampoline_section == 0
    # An object that is still to be linked into a module has no loader yet.
    assert states(prove_change(tmp_path, assemble(tmp_path, source)).sites) == ["left"]


def test_the_module_loader_does_not_take_a_restore(tmp_path: Path) -> None:
    body = ".frame\n std 2, 24(1)\n bl __SCT__x\n nop\n .unframe"
    module = assemble(tmp_path, function(body) + MODULE)
    proof = prove_change(tmp_path, module, restored(calls(module)))
    assert states(proof.sites) == ["wrong"]
    assert "the module loader expects a nop" in proof.errors[0]
    stub = prove_change(tmp_path, module, with_stub(module, calls(module)))
    assert (states(stub.sites), stub.errors) == (["stub"], ())


def test_the_module_loader_ignores_the_mark(tmp_path: Path) -> None:
    source = MARKED + function(".frame\n bl __SCT__x\n nop\n .unframe") + MODULE
    proof = prove_change(tmp_path, assemble(tmp_path, source))
    assert (states(proof.sites), proof.sites[0].right) == (["left"], False)


LOCAL = TRAMPOLINES.replace(".globl __SCT__x", "")


@pytest.mark.parametrize(
    ("bind", "errors"), [(STB_GLOBAL, ()), (STB_WEAK, (f"symbol 9 ({STUB}) must be global.",))]
)
def test_the_stub_of_a_local_trampoline_is_global(
    tmp_path: Path, bind: int, errors: tuple[str, ...]
) -> None:
    before = assemble(tmp_path, LOCAL + function(".frame\n bl __SCT__x\n nop\n .unframe"))
    section = next(s for s in before.sections if s.name == ".text")
    assert section.relocations is not None
    place = section.relocations[-1]
    change = with_stub(before, [place.offset], trampoline=place.symbol)
    change = replace(
        change,
        relocations=[replace(change.relocations[0], addend=place.addend)],
        symbols=[replace(change.symbols[0], bind=bind)],
    )
    proof = prove_change(tmp_path, before, change)
    assert (states(proof.sites), proof.errors) == (["stub"], errors)


def test_section_and_addend_name_a_trampoline(tmp_path: Path) -> None:
    body = ".frame\n bl .tramp+4\n nop\n bl .tramp+8\n nop\n .unframe"
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    section = next(s for s in before.sections if s.name == ".text")
    assert section.relocations is not None
    assert [r.addend for r in section.relocations if r.type == R_PPC64_REL24] == [4, 8]
    proof = prove_change(tmp_path, before)
    assert [site.trampoline for site in proof.sites] == ["__SCT__y"]


OTHER_CALLS = {
    "sibling call": (
        ".frame\n .unframe\n b __SCT__x",
        "r2 is wrong after it: r2save.__SCT__x.0123456789ab: its instructions",
    ),
    "conditional branch": (
        ".frame\n beq __SCT__x\n .unframe",
        "relocation type 11: a branch that saves nothing",
    ),
    "no nop": (
        ".frame\n bl __SCT__x\n mr 3, 4\n .unframe",
        "the restore overwrote an instruction that is not a nop",
    ),
    "addend": (".frame\n bl __SCT__x+4\n nop\n .unframe", "this call must not be changed"),
    "absolute": (
        ".frame\n ba __SCT__x\n nop\n .unframe",
        "relocation type 2: a branch that saves nothing",
    ),
}


@pytest.mark.parametrize(("body", "error"), OTHER_CALLS.values(), ids=OTHER_CALLS)
def test_calls_that_cannot_be_right_are_left(tmp_path: Path, body: str, error: str) -> None:
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    proof = prove_change(tmp_path, before)
    assert (states(proof.sites), proof.errors) == (["left"], ())
    site = calls(before)[0]
    assert not proof.sites[0].right
    changed = prove_change(tmp_path, before, with_stub(before, [site])).errors
    assert error in changed[0]


def test_a_restore_before_the_rewrite_need_not_be_shown(tmp_path: Path) -> None:
    body = ".frame\n cmpdi 3, 0\n beq 1f\n std 2, 24(1)\n1: bl __SCT__x\n ld 2, 24(1)\n .unframe"
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    proof = prove_change(tmp_path, before)
    assert (states(proof.sites), proof.errors) == (["restored"], ())
    assert not proof.sites[0].right
    assert "no save was found" in proof.sites[0].why


NOP_IS_ENTERED = {
    "branch": ".frame\n cmpdi 3, 0\n beq 1f\n bl __SCT__x\n1: nop\n .unframe",
    "label": ".frame\n bl __SCT__x\n.globl back\nback: nop\n .unframe",
    "address": ".frame\n bl __SCT__x\n1: nop\n .unframe\n .data\n .quad 1b\n .text",
    "other section": '.frame\n bl __SCT__x\n1: nop\n .unframe\n.section .cold, "ax"\n b 1b\n .text',
    "relocated": ".frame\n bl __SCT__x\n .reloc ., R_PPC64_ADDR16_LO, f\n nop\n .unframe",
}


@pytest.mark.parametrize("body", NOP_IS_ENTERED.values(), ids=NOP_IS_ENTERED)
def test_a_restore_belongs_to_its_call_alone(tmp_path: Path, body: str) -> None:
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    proof = prove_change(tmp_path, before, with_stub(before, calls(before)))
    assert states(proof.sites) == ["wrong"]
    assert any("the restore may run" in e or "a relocation applies" in e for e in proof.errors)


def test_a_tocsave_relocation_on_the_nop_is_a_hint(tmp_path: Path) -> None:
    body = ".frame\n bl __SCT__x\n .reloc ., R_PPC64_TOCSAVE, f+8\n nop\n .unframe"
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    proof = prove_change(tmp_path, before, with_stub(before, calls(before)))
    assert (states(proof.sites), proof.errors) == (["stub"], ())


@pytest.mark.parametrize("nop", ["nop", "cror 15,15,15", "cror 31,31,31"])
def test_all_nops_may_become_restores(tmp_path: Path, nop: str) -> None:
    before = assemble(tmp_path, TRAMPOLINES + function(f".frame\n bl __SCT__x\n {nop}\n .unframe"))
    assert prove_change(tmp_path, before, with_stub(before, calls(before))).errors == ()


def test_calls_that_are_right_already_stay_as_they_are(tmp_path: Path) -> None:
    marked = assemble(tmp_path, MARKED + function(".frame\n bl __SCT__x\n nop\n .unframe"))
    proof = prove_change(tmp_path, marked, restored(calls(marked)))
    assert "the call was changed although r2 was right after it" in proof.errors[0]
    body = ".frame\n std 2, 24(1)\n bl __SCT__x\n ld 2, 24(1)\n .unframe"
    done = assemble(tmp_path, TRAMPOLINES + function(body))
    assert states(prove_change(tmp_path, done).sites) == ["done"]
    errors = prove_change(tmp_path, done, with_stub(done, calls(done))).errors
    assert "the call was changed although r2 was right after it" in errors[0]


def test_a_call_names_its_stub(tmp_path: Path) -> None:
    body = '.frame\n bl __SCT__x\n nop\n .unframe\n .section .other, "a"\n .quad .text\n .text'
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    (site,) = calls(before)
    change = with_stub(before, [site])
    by_section = replace(change, retarget={site: ".text"}, addend=len(text(before)))
    proof = prove_change(tmp_path, before, by_section)
    assert (states(proof.sites), len(proof.errors)) == (["stub"], 1)
    assert "does not name" in proof.errors[0]


def test_a_call_that_needs_no_stub_keeps_its_relocation(tmp_path: Path) -> None:
    body = ".frame\n std 2, 24(1)\n bl __SCT__x\n nop\n .unframe"
    body += '\n .section .other, "a"\n .quad .tramp\n .text'
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    (site,) = calls(before)
    change = replace(restored([site]), retarget={site: ".tramp"})
    proof = prove_change(tmp_path, before, change)
    assert (states(proof.sites), len(proof.errors)) == (["saved"], 1)
    assert "relocation was changed" in proof.errors[0]


def test_a_restore_takes_the_place_of_a_nop_only(tmp_path: Path) -> None:
    for instruction in ("mr 3, 4", "ld 2, 24(1)", "ori 2, 2, 0"):
        body = f".frame\n bl __SCT__x\n {instruction}\n .unframe"
        before = assemble(tmp_path, TRAMPOLINES + function(body))
        proof = prove_change(tmp_path, before, with_stub(before, calls(before)))
        assert any("overwrote an instruction that is not a nop" in error for error in proof.errors)
