"""Each step of a rewrite, left out, doubled, or applied to the wrong place, is an error."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.elfwriter import (
    LD_R2,
    NOP,
    R_PPC64_REL24,
    R_PPC64_REL24_NOTOC,
    STB_GLOBAL,
    STB_WEAK,
    STD_R2,
    B,
    Elf,
    Relocation,
    Section,
    Symbol,
    build,
    words,
)
from tests.verifier.proof.support import (
    STUB,
    THUNK,
    TRAMPOLINES,
    Change,
    apply,
    assemble,
    calls,
    function,
    prove_change,
    prove_data,
    restored,
    stub_symbol,
    text,
    with_thunk,
)
from tests.verifier.proof.test_prove import DATA, SOURCE, right_change


@pytest.fixture
def before(tmp_path: Path) -> Elf:
    return assemble(tmp_path, SOURCE + DATA)


def stub_change(elf: Elf) -> Change:
    return right_change(elf)[0]


def wrong_stub_word(elf: Elf) -> list[Change]:
    return [replace(stub_change(elf), append=words(STD_R2 + 8, B))]


def linking_stub(elf: Elf) -> list[Change]:
    return [replace(stub_change(elf), append=words(STD_R2, B + 1))]


def stub_to_another_trampoline(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    return [replace(change, relocations=[replace(change.relocations[0], symbol="__SCT__y")])]


def stub_to_no_trampoline(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    return [replace(change, relocations=[replace(change.relocations[0], symbol="other")])]


def stub_after_the_start_of_the_trampoline(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    return [replace(change, relocations=[replace(change.relocations[0], addend=4)])]


def stub_without_toc(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    entry = replace(change.relocations[0], type=R_PPC64_REL24_NOTOC)
    return [replace(change, relocations=[entry])]


def stub_without_relocation(elf: Elf) -> list[Change]:
    return [replace(stub_change(elf), relocations=[])]


def relocation_too_many(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    return [replace(change, relocations=[*change.relocations, change.relocations[0]])]


def relocation_of_old_code(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    extra = Relocation(offset=16, type=R_PPC64_REL24, symbol="other")
    return [replace(change, relocations=[*change.relocations, extra])]


def missing_restore(elf: Elf) -> list[Change]:
    return [replace(stub_change(elf), words={calls(elf)[0] + 4: LD_R2})]


def missing_retarget(elf: Elf) -> list[Change]:
    # Not the first call: the stub that the first call goes through saves for the second.
    return [replace(stub_change(elf), retarget={calls(elf)[1]: STUB})]


def restore_of_another_register(elf: Elf) -> list[Change]:
    return [
        replace(stub_change(elf), words=dict.fromkeys(stub_change(elf).words, LD_R2 + (1 << 21)))
    ]


def restore_from_another_place(elf: Elf) -> list[Change]:
    return [replace(stub_change(elf), words=dict.fromkeys(stub_change(elf).words, LD_R2 + 8))]


def another_nop_restored(elf: Elf) -> list[Change]:
    others_nop = calls(elf)[-1] + 12
    assert text(elf)[others_nop : others_nop + 4] == words(NOP)
    return [stub_change(elf), Change(words={others_nop: LD_R2})]


def another_call_retargeted(elf: Elf) -> list[Change]:
    return [stub_change(elf), Change(retarget={calls(elf)[-1] + 8: STUB})]


def another_call_retargeted_and_restored(elf: Elf) -> list[Change]:
    other = calls(elf)[-1] + 8
    return [stub_change(elf), Change(retarget={other: STUB}, words={other + 4: LD_R2})]


def call_of_another_trampoline(elf: Elf) -> list[Change]:
    y = calls(elf)[-1]
    return [stub_change(elf), Change(retarget={y: STUB}, words={y + 4: LD_R2})]


def trampolines_swapped(elf: Elf) -> list[Change]:
    return [Change(retarget={calls(elf)[0]: "__SCT__y"})]


def call_word_changed(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    return [replace(change, words={**change.words, calls(elf)[0]: B})]


def call_to_data_changed(elf: Elf) -> list[Change]:
    return [stub_change(elf), Change(section=".data", words={16: 43})]


def code_elsewhere_changed(elf: Elf) -> list[Change]:
    return [stub_change(elf), Change(words={8: NOP})]


def symbol_missing(elf: Elf) -> list[Change]:
    number = len(elf.symbols)
    return [replace(stub_change(elf), symbols=[], retarget=dict.fromkeys(calls(elf)[:2], number))]


def symbol_too_many(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    extra = Symbol(name="extra", section=".text", bind=STB_GLOBAL)
    return [replace(change, symbols=[*change.symbols, extra])]


def stub_unused(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    return [replace(change, words={}, retarget={})]


def stub_twice(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    start, (first, second, _) = len(text(elf)), calls(elf)
    name = STUB[:-1] + "c"
    return [
        replace(
            change,
            append=change.append * 2,
            retarget={first: STUB, second: name},
            symbols=[*change.symbols, stub_symbol(start + 8, name=name)],
            relocations=[
                *change.relocations,
                replace(change.relocations[0], offset=start + 12),
            ],
        )
    ]


def stub_in_old_code(elf: Elf) -> list[Change]:
    # The first two words of the function's body, made into a stub.
    change = stub_change(elf)
    return [
        replace(
            change,
            words={**change.words, 8: STD_R2, 12: B},
            append=b"",
            relocations=[replace(change.relocations[0], offset=12)],
            symbols=[stub_symbol(8)],
        )
    ]


def code_appended(elf: Elf) -> list[Change]:
    change = stub_change(elf)
    return [replace(change, append=change.append + words(NOP))]


def code_appended_before_the_stub(elf: Elf) -> list[Change]:
    change, start = stub_change(elf), len(text(elf))
    return [
        replace(
            change,
            append=words(NOP) + change.append,
            relocations=[replace(change.relocations[0], offset=start + 8)],
            symbols=[stub_symbol(start + 4)],
        )
    ]


def code_appended_elsewhere(elf: Elf) -> list[Change]:
    return [stub_change(elf), Change(section=".tramp", append=words(NOP))]


def data_appended(elf: Elf) -> list[Change]:
    return [stub_change(elf), Change(section=".data", append=bytes(8))]


def with_symbol(**fields: object) -> Callable[[Elf], list[Change]]:
    def change(elf: Elf) -> list[Change]:
        right = stub_change(elf)
        return [replace(right, symbols=[replace(right.symbols[0], **fields)])]  # type: ignore[arg-type]

    return change


def with_name(name: str) -> Callable[[Elf], list[Change]]:
    def change(elf: Elf) -> list[Change]:
        right = stub_change(elf)
        return [
            replace(
                right,
                symbols=[stub_symbol(len(text(elf)), name=name)],
                retarget=dict.fromkeys(right.retarget, name),
            )
        ]

    return change


NOT_A_STUB = "its instructions are not those of a stub"
NO_TRAMPOLINE = "its branch does not lead to a trampoline"
NOT_RESTORED = "but not restored at .text+0x"
NOT_A_CALLS_BYTES = "bytes were changed that do not belong to a static call"
NOT_A_CALL_BEFORE = "this branch was not a call before"
NOT_NEEDED = "a relocation was appended that no stub needs"
NO_STUB = "no stub, and no branch over the appended code"
NOT_HIDDEN = "must be a hidden function of 8 bytes with st_other 2"
NAMES_NOTHING = "was appended and names no appended code"

MUTATIONS: dict[str, tuple[Callable[[Elf], list[Change]], str]] = {
    mutation.__name__: (mutation, error)
    for mutation, error in (
        (wrong_stub_word, NOT_A_STUB),
        (linking_stub, NOT_A_STUB),
        (stub_to_another_trampoline, "the call led to __SCT__x and leads to __SCT__y now"),
        (stub_to_no_trampoline, NO_TRAMPOLINE),
        (stub_after_the_start_of_the_trampoline, NO_TRAMPOLINE),
        (stub_without_toc, NO_TRAMPOLINE),
        (stub_without_relocation, "the stub has no relocation of its own"),
        (relocation_too_many, NOT_NEEDED),
        (relocation_of_old_code, NOT_NEEDED),
        (missing_restore, NOT_RESTORED),
        (missing_retarget, "no save was found: r1 changes"),
        (restore_of_another_register, NOT_RESTORED),
        (restore_from_another_place, NOT_RESTORED),
        (another_nop_restored, NOT_A_CALLS_BYTES),
        (another_call_retargeted, NOT_A_CALL_BEFORE),
        (another_call_retargeted_and_restored, NOT_A_CALL_BEFORE),
        (call_of_another_trampoline, "the call led to __SCT__y and leads to __SCT__x now"),
        (trampolines_swapped, "r2 is wrong after it: a nop follows"),
        (call_word_changed, "r2 is wrong after it: a sibling call"),
        (call_to_data_changed, f".data+0x10: {NOT_A_CALLS_BYTES}"),
        (code_elsewhere_changed, f".text+0x8 in f: {NOT_A_CALLS_BYTES}"),
        (symbol_missing, NO_STUB),
        (symbol_too_many, f"(extra) {NAMES_NOTHING}"),
        (stub_unused, f"no call uses the stub {STUB}"),
        (stub_twice, f"it does what {STUB} does"),
        (stub_in_old_code, "is in code that was there before"),
        (code_appended, "bytes were appended that are not a stub"),
        (code_appended_before_the_stub, NO_STUB),
        (code_appended_elsewhere, f".tramp+0x8: {NO_STUB}"),
        (data_appended, "the header of section 3 (.data) was changed"),
    )
} | {
    "symbol_global": (with_symbol(bind=STB_GLOBAL), "must be weak"),
    "symbol_visible": (with_symbol(other=0), NOT_HIDDEN),
    "symbol_marked": (with_symbol(other=0x22), NOT_HIDDEN),
    "symbol_of_no_type": (with_symbol(type=0), NOT_HIDDEN),
    "symbol_too_big": (with_symbol(size=12), NOT_HIDDEN),
    "symbol_beside": (with_symbol(value=0), "is in code that was there before"),
    "symbol_in_another_section": (with_symbol(section=".tramp"), NOT_A_STUB),
    "symbol_absolute": (with_symbol(st_shndx=0xFFF1), NAMES_NOTHING),
    "name_of_another_trampoline": (
        with_name("r2save.__SCT__y.0123456789ab"),
        "it leads to __SCT__x",
    ),
    "name_without_digits": (with_name("r2save.__SCT__x"), NAMES_NOTHING),
    "name_of_no_stub": (with_name("f.0123456789ab"), NAMES_NOTHING),
}


@pytest.mark.parametrize(("mutation", "error"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_wrong_rewrite_is_an_error(
    tmp_path: Path, before: Elf, mutation: Callable[[Elf], list[Change]], error: str
) -> None:
    errors = prove_change(tmp_path, before, *mutation(before)).errors
    assert any(error in text for text in errors), errors
    assert all(text.endswith(".") for text in errors)


def test_a_name_that_was_there_already(tmp_path: Path, before: Elf) -> None:
    taken = replace(before, symbols=[*before.symbols, Symbol(name=STUB, bind=STB_GLOBAL)])
    change = stub_change(taken)
    numbered = replace(change, retarget=dict.fromkeys(change.retarget, len(taken.symbols) + 1))
    proof = prove_change(tmp_path, taken, numbered)
    assert any("another symbol has its name" in error for error in proof.errors)


def test_two_stubs_of_one_name(tmp_path: Path, before: Elf) -> None:
    right = apply(before, *right_change(before))
    double = replace(right, symbols=[*right.symbols, right.symbols[-1]])
    sections = [_by_number(section, right) for section in double.sections]
    data = build(replace(double, sections=sections))
    errors = prove_data(tmp_path, build(before), data).errors
    assert f"symbol {len(before.symbols) + 1} ({STUB}) {NAMES_NOTHING}." in errors


def _by_number(section: Section, elf: Elf) -> Section:
    """The section with its relocations' symbols numbered, where a name would not tell."""
    numbers = {symbol.name: number for number, symbol in enumerate(elf.symbols, 1)}
    if section.relocations is None:
        return section
    return replace(
        section,
        relocations=[
            replace(r, symbol=numbers.get(r.symbol, r.symbol)) if isinstance(r.symbol, str) else r
            for r in section.relocations
        ],
    )


def test_calls_that_come_and_go_are_errors(tmp_path: Path, before: Elf) -> None:
    here, other = calls(before)[0], calls(before)[-1] + 8
    lost = prove_change(tmp_path, before, Change(retarget={here: "other"}))
    assert any("this branch is no longer a call" in error for error in lost.errors)
    added = prove_change(tmp_path, before, Change(retarget={other: "__SCT__x"}))
    assert any(NOT_A_CALL_BEFORE in error for error in added.errors)


def test_a_stub_is_new_code(tmp_path: Path) -> None:
    body = ".frame\n bl __SCT__x\n nop\n .unframe\n std 2, 24(1)\n b __SCT__x"
    before = assemble(tmp_path, TRAMPOLINES + function(body))
    site, old_branch = calls(before)
    change = replace(restored([site]), retarget={site: STUB}, symbols=[stub_symbol(old_branch - 4)])
    errors = prove_change(tmp_path, before, change).errors
    assert any("is in code that was there before" in error for error in errors)


def test_a_thunks_symbol_is_global(tmp_path: Path) -> None:
    before = assemble(tmp_path, TRAMPOLINES + function(".frame\n bl __SCT__x\n mr 3, 4\n .unframe"))
    change = with_thunk(before, calls(before)[0])
    assert prove_change(tmp_path, before, change).errors == ()
    symbol = replace(change.symbols[0], bind=STB_WEAK)
    (error,) = prove_change(tmp_path, before, replace(change, symbols=[symbol])).errors
    assert f"({THUNK}) must be global" in error


def test_a_wrong_stub_is_an_error_beside_its_calls(tmp_path: Path, before: Elf) -> None:
    errors = prove_change(tmp_path, before, *wrong_stub_word(before)).errors
    assert any("is no good: its instructions are not" in error for error in errors)
