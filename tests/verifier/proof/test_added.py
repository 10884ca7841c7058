"""Each thing that a rewrite does, left out, doubled, or done to the wrong place, is found."""

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


def stub_behind_the_trampoline(elf: Elf) -> list[Change]:
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
    # Not the other way round: the stub that the first call goes through saves for the second.
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


def code_appended_in_front(elf: Elf) -> list[Change]:
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


MUTATIONS: dict[str, Callable[[Elf], list[Change]]] = {
    wrong.__name__: wrong
    for wrong in (
        *(wrong_stub_word, linking_stub, stub_to_another_trampoline, stub_to_no_trampoline),
        *(stub_behind_the_trampoline, stub_without_toc, stub_without_relocation),
        *(relocation_too_many, relocation_of_old_code, missing_restore, missing_retarget),
        *(restore_of_another_register, restore_from_another_place, another_nop_restored),
        *(another_call_retargeted, another_call_retargeted_and_restored),
        *(call_of_another_trampoline, trampolines_swapped, call_word_changed),
        *(call_to_data_changed, code_elsewhere_changed, symbol_missing, symbol_too_many),
        *(stub_unused, stub_twice, stub_in_old_code, code_appended, code_appended_in_front),
        *(code_appended_elsewhere, data_appended),
    )
} | {
    "symbol_global": with_symbol(bind=STB_GLOBAL),
    "symbol_visible": with_symbol(other=0),
    "symbol_marked": with_symbol(other=0x22),
    "symbol_of_no_type": with_symbol(type=0),
    "symbol_too_big": with_symbol(size=12),
    "symbol_beside": with_symbol(value=0),
    "symbol_in_another_section": with_symbol(section=".tramp"),
    "symbol_absolute": with_symbol(st_shndx=0xFFF1),
    "name_of_another_trampoline": with_name("r2save.__SCT__y.0123456789ab"),
    "name_without_digits": with_name("r2save.__SCT__x"),
    "name_of_no_stub": with_name("f.0123456789ab"),
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_a_wrong_rewrite_is_an_error(
    tmp_path: Path, before: Elf, mutation: Callable[[Elf], list[Change]]
) -> None:
    proof = prove_change(tmp_path, before, *mutation(before))
    assert proof.errors
    assert all(error.endswith(".") for error in proof.errors)


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
    assert prove_data(tmp_path, build(before), data).errors


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


def test_calls_that_come_and_go_are_told(tmp_path: Path, before: Elf) -> None:
    here, other = calls(before)[0], calls(before)[-1] + 8
    gone = prove_change(tmp_path, before, Change(retarget={here: "other"}))
    assert any("this branch is no longer a call" in e for e in gone.errors)
    come = prove_change(tmp_path, before, Change(retarget={other: "__SCT__x"}))
    assert any("this branch was not a call before" in e for e in come.errors)


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
    assert prove_change(tmp_path, before, replace(change, symbols=[symbol])).errors


def test_a_bad_stub_is_told_beside_its_calls(tmp_path: Path, before: Elf) -> None:
    errors = prove_change(tmp_path, before, *wrong_stub_word(before)).errors
    assert any("is no good: its instructions are not" in error for error in errors)
