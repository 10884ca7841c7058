"""`check` of files that are right, and of the same files with one thing broken."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import scpatch
from scpatch import CheckVerdict, Offsets, Options
from scpatch.verifier.check import CheckedCall, Kind
from scpatch.verifier.verdict import Result
from tests.tools import (
    BL,
    CROSS,
    FIXTURES,
    LD_R2,
    NOP,
    STD_R2,
    B,
    assemble,
    relocations,
    run,
    section,
    sections,
    symbols,
)

OFFSETS = Offsets(paca_toc=16, paca_thread_info=2312, livepatch_sp=16)
KNOWN = Options(offsets=OFFSETS)
THUNKS = Options(no_nop="thunk", undefined="rewrite")


def checked(data: bytes | Path, *, image: bool = False, offsets: bool = True) -> CheckVerdict:
    (verdict,) = scpatch.check(data, KNOWN if offsets else Options(), image=image)
    return verdict


def made(tmp_path: Path, name: str, strategy: str, options: Options = KNOWN) -> Path:
    path = tmp_path / "made.o"
    scpatch.rewrite(FIXTURES / name, strategy, options, output=path, allow_refused=True)
    return path


def at(path: Path, name: str, offset: int) -> int:
    """The file offset of a place in a section, as readelf says."""
    return section(path, name).offset + offset


def place(path: Path, call: CheckedCall) -> int:
    return at(path, call.section_name, call.offset)


def word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def with_word(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + struct.pack("<I", value) + data[offset + 4 :]


def of(verdict: CheckVerdict, call: CheckedCall) -> CheckedCall:
    """The same call in another verdict."""
    key = call.section, call.offset
    return next(c for c in verdict.calls if (c.section, c.offset) == key)


def reasons(verdict: CheckVerdict) -> Counter[str]:
    return Counter(str(call.reason) for call in verdict.calls)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("calls-gcc.o", Kind.OBJECT, {"wrong": 5, "open": 8}),
        ("calls-clang.o", Kind.OBJECT, {"wrong": 5, "open": 6}),
        ("calls-pcrel.o", Kind.OBJECT, {"notoc": 13}),
        ("calls-pcrel-clang.o", Kind.OBJECT, {"notoc": 11}),
        ("module.ko", Kind.MODULE, {"wrong": 2, "loader": 2}),
        ("module-signed.ko", Kind.MODULE, {"wrong": 2, "loader": 2}),
        ("marked.o", Kind.OBJECT, {"linker": 1}),
    ],
)
def test_what_compilers_make(name: str, kind: Kind, expected: dict[str, int]) -> None:
    verdict = checked(FIXTURES / name)
    assert (verdict.kind, reasons(verdict)) == (kind, expected)
    assert verdict.proven == (not {"wrong", "open"} & expected.keys())


@pytest.mark.parametrize(
    ("name", "strategy", "image", "expected"),
    [
        ("calls-gcc.o", "callsite", False, {"stub": 11, "saved": 2}),
        ("calls-clang.o", "callsite", False, {"stub": 9, "saved": 2}),
        ("module.ko", "callsite", False, {"stub": 2, "loader": 2}),
        ("calls-gcc.o", "paca", True, {"paca": 13}),
        ("calls-gcc.o", "paca", False, {"open": 13}),
        ("calls-gcc.o", "localentry", True, {"linker": 5, "open": 8}),
        ("calls-gcc.o", "livepatch-stack", True, {"trampoline": 5, "open": 8}),
    ],
)
def test_what_each_strategy_makes(
    tmp_path: Path, name: str, strategy: str, image: bool, expected: dict[str, int]
) -> None:
    verdict = checked(made(tmp_path, name, strategy), image=image)
    assert (reasons(verdict), verdict.errors) == (expected, ())
    assert verdict.strategies == (strategy,)


def test_the_image_has_no_loader_that_would_save_r2() -> None:
    assert reasons(checked(FIXTURES / "calls-gcc.o", image=True)) == {"wrong": 13}


@pytest.mark.parametrize("strategy", ["paca", "livepatch-stack"])
def test_an_offset_that_nobody_has_told_is_not_shown(tmp_path: Path, strategy: str) -> None:
    path = made(tmp_path, "calls-gcc.o", strategy)
    verdict = checked(path, image=True, offsets=False)
    assert verdict.result is Result.NOT_SHOWN
    assert any("--asm-offsets" in call.why for call in verdict.calls)
    other = Options(offsets=Offsets(paca_toc=8, paca_thread_info=8, livepatch_sp=8))
    (verdict,) = scpatch.check(path, other, image=True)
    assert Result.NOT_PROVEN in {call.result for call in verdict.calls}


AFTER_CALL = {
    "no restore": NOP,
    "another register": 0xE8610018,  # ld r3,24(r1)
    "another slot": 0xE8410028,  # ld r2,40(r1)
    "the caller's slot": 0xE8420018,  # ld r2,24(r2)
    "the PACA": 0xE84D0010,  # ld r2,16(r13)
}


@pytest.mark.parametrize("value", AFTER_CALL.values(), ids=AFTER_CALL)
@pytest.mark.parametrize("name", ["calls-gcc.o", "module.ko"])
def test_each_call_with_another_word_after_it(tmp_path: Path, name: str, value: int) -> None:
    path = made(tmp_path, name, "callsite")
    data, right = path.read_bytes(), checked(path)
    calls = [call for call in right.calls if str(call.reason) in ("stub", "saved")]
    assert calls
    assert right.proven
    for call in calls:
        assert word(data, place(path, call) + 4) == LD_R2
        broken = checked(with_word(data, place(path, call) + 4, value))
        assert of(broken, call).result is not Result.PROVEN


@pytest.mark.parametrize("name", ["calls-gcc.o", "calls-clang.o", "module.ko"])
def test_each_call_whose_restore_is_a_branch_target(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name, "callsite")
    data, right = path.read_bytes(), checked(path)
    for call in right.calls:
        # The word before a call belongs to no relocation in these files, or the bl stays.
        before = place(path, call) - 8
        broken = checked(with_word(data, before, B | 12))
        if str(call.reason) == "notoc":
            continue
        assert of(broken, call).result is not Result.PROVEN, call


def stubs(path: Path) -> Iterator[tuple[str, int]]:
    """The name of each stub, and its file offset."""
    names = section_names(path)
    for symbol in symbols(path):
        if symbol.name.startswith(("r2save.", "r2thunk.")):
            yield symbol.name, at(path, names[int(symbol.section)], symbol.value)


def section_names(path: Path) -> dict[int, str]:
    return {header.index: header.name for header in sections(path)}


STUB_WORDS = {
    "no save": (0, NOP),
    "another register saved": (0, 0xF8610018),  # std r3,24(r1)
    "another slot": (0, 0xF8410020),  # std r2,32(r1)
    "a call": (4, BL),
    "no branch": (4, NOP),
}


@pytest.mark.parametrize(("offset", "value"), STUB_WORDS.values(), ids=STUB_WORDS)
@pytest.mark.parametrize("name", ["calls-gcc.o", "module.ko"])
def test_each_stub_with_another_word(tmp_path: Path, name: str, offset: int, value: int) -> None:
    path = made(tmp_path, name, "callsite")
    data = path.read_bytes()
    assert checked(data).proven
    for _, start in stubs(path):
        assert (word(data, start), word(data, start + 4)) == (STD_R2, B)
        broken = checked(with_word(data, start + offset, value))
        assert not broken.proven


@pytest.mark.parametrize("value", [NOP, 0xF8610018, BL, 0xE8610018])
def test_each_word_of_each_thunk(tmp_path: Path, value: int) -> None:
    path = made(tmp_path, "refused.o", "callsite", THUNKS)
    data, right = path.read_bytes(), checked(path)
    thunks = [start for name, start in stubs(path) if name.startswith("r2thunk.")]
    count = reasons(right)["thunk"]
    assert thunks
    assert count
    for start in thunks:
        for offset in range(0, 16, 4):
            if word(data, start + offset) != value:
                broken = checked(with_word(data, start + offset, value))
                assert reasons(broken)["thunk"] < count or broken.errors


def relas(path: Path) -> Iterator[tuple[int, str, int, int]]:
    """File offset of each relocation, the section that it is for, r_offset, symbol."""
    counts: Counter[str] = Counter()
    for rela in relocations(path):
        record = section(path, rela.table).offset + 24 * counts[rela.table]
        counts[rela.table] += 1
        yield record, rela.table.removeprefix(".rela"), rela.offset, rela.symbol


@pytest.mark.parametrize("name", ["calls-gcc.o", "calls-clang.o", "module.ko"])
def test_each_stub_that_leads_to_another_symbol(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name, "callsite")
    data = path.read_bytes()
    starts = {start + 4 for _, start in stubs(path)}
    records = [
        (record, number)
        for record, target, offset, number in relas(path)
        if at(path, target, offset) in starts
    ]
    assert len(records) == len(starts) > 0
    for record, number in records:
        for other in range(1, len(symbols(path))):
            if symbols(path)[other].section == "UND" or other == number:
                continue
            info = struct.pack("<Q", other << 32 | 10)
            broken = checked(data[: record + 8] + info + data[record + 16 :])
            same = symbols(path)[other], symbols(path)[number]
            if (same[0].section, same[0].value) != (same[1].section, same[1].value):
                assert not broken.proven, (same, other)


@pytest.mark.parametrize("name", ["calls-gcc.o", "module.ko"])
def test_each_call_that_skips_the_save(tmp_path: Path, name: str) -> None:
    """It looks like a call of something else than a trampoline."""
    path = made(tmp_path, name, "callsite")
    data, right = path.read_bytes(), checked(path)
    for record, target, offset, _ in relas(path):
        stubbed = [
            call
            for call in right.calls
            if (call.section_name, call.offset, str(call.reason)) == (target, offset, "stub")
        ]
        if stubbed:
            addend = struct.pack("<q", 4)
            assert not checked(data[: record + 16] + addend + data[record + 24 :]).proven


@pytest.mark.parametrize("strategy", ["callsite", "paca", "localentry"])
def test_no_changed_bit_of_the_code_makes_a_wrong_call_right(tmp_path: Path, strategy: str) -> None:
    """The words of the calls and after them, one bit each. r2 survives a call whose `bl` is none
    any more only by accident."""
    path = made(tmp_path, "calls-gcc.o", strategy)
    data, right = path.read_bytes(), checked(path, image=True)
    for call in [call for call in right.calls if call.result is Result.PROVEN][:4]:
        for offset in (0, 4):
            for bit in range(32):
                start = place(path, call) + offset
                if offset == 0 and 2 <= bit < 26:
                    continue  # the distance, which the relocation fills in
                value = word(data, start) ^ 1 << bit
                broken = checked(with_word(data, start, value), image=True)
                assert of(broken, call).result is not Result.PROVEN, (call, offset, bit)


def test_each_word_of_the_code_on_the_livepatch_stack(tmp_path: Path) -> None:
    path = made(tmp_path, "calls-gcc.o", "livepatch-stack")
    data, names = path.read_bytes(), section_names(path)
    assert reasons(checked(path))["trampoline"] == 5
    blocks = [symbol for symbol in symbols(path) if symbol.name.startswith("r2lps.")]
    assert blocks
    for block in blocks:
        for offset in range(0, block.size, 4):
            start = at(path, names[int(block.section)], block.value + offset)
            broken = checked(with_word(data, start, NOP))
            assert reasons(broken)["trampoline"] < 5, offset


@pytest.mark.parametrize("strategy", ["localentry", "livepatch-stack"])
def test_a_weak_trampoline_may_be_replaced_by_one_that_nobody_has_rewritten(
    tmp_path: Path, strategy: str
) -> None:
    old = tmp_path / "old.o"
    weak = "--weaken-symbol=__SCT__tp_func_kfree"
    run(f"{CROSS}objcopy", weak, FIXTURES / "calls-gcc.o", old)
    new = scpatch.rewrite(old, strategy, KNOWN, output=tmp_path / "new.o").outputs[0].target
    verdict = checked(new, image=True)
    reason = {"localentry": "linker", "livepatch-stack": "trampoline"}[strategy]
    assert reasons(verdict) == {reason: 3, "open": 10}
    weakened = [call for call in verdict.calls if call.trampoline == "__SCT__tp_func_kfree"]
    end = "but it is weak: the link may take that of another object instead"
    assert all(call.why.endswith(end) for call in weakened)
    assert all(v.proven for v in scpatch.verify(old, new, KNOWN, run=False))


def test_a_trampoline_that_uses_the_callers_r2_is_marked_in_vain(tmp_path: Path) -> None:
    """Control comes to a marked trampoline with an r12 that is not its address."""
    path = made(tmp_path, "calls-gcc.o", "localentry")
    data, right = path.read_bytes(), checked(path)
    (call, *_) = [call for call in right.calls if str(call.reason) == "linker"]
    trampoline = next(s for s in symbols(path) if s.name == call.trampoline)
    start = at(path, section_names(path)[int(trampoline.section)], trampoline.value)
    assert word(data, start) == 0xE84D0010  # ld r2,16(r13)
    broken = with_word(with_word(data, start, 0x3C4C0000), start + 4, 0x38420000)
    assert of(checked(broken), call).result is Result.NOT_PROVEN
    other = with_word(data, start, 0xE84D0018)
    assert of(checked(other), call).result is Result.NOT_PROVEN


def test_a_save_that_was_moved(tmp_path: Path) -> None:
    """A nop after a call has become the save, and is after another call now."""
    source = """
        .text
        FRAME f
        bl g
        nop
        bl __SCT__x
        nop
        nop
        LEAVE f
        FUNC g
        blr
        END g
        FUNC __SCT__x
        blr
        END __SCT__x
        .section .gnu.linkonce.this_module, "aw"
        .quad 0
    """
    path = tmp_path / "made.ko"
    scpatch.rewrite(assemble(tmp_path, source), "callsite", output=path)
    data, right = path.read_bytes(), checked(path)
    (call,) = right.calls
    assert (str(call.reason), right.proven) == ("saved", True)
    start = place(path, call)
    assert word(data, start - 4) == STD_R2
    for to in (start + 8, start - 12 - 16):
        moved = with_word(with_word(data, start - 4, NOP), to, STD_R2)
        assert checked(moved).result is not Result.PROVEN, to


def test_a_file_without_calls_is_right(tmp_path: Path) -> None:
    verdict = checked(assemble(tmp_path, "f:\tblr\n"))
    assert (verdict.proven, verdict.calls) == (True, ())


def test_members_of_archives_are_judged_one_by_one() -> None:
    verdicts = scpatch.check(FIXTURES / "members.a")
    assert all(verdict.label.startswith(f"{FIXTURES}/members.a(") for verdict in verdicts)
    assert {verdict.result for verdict in verdicts} == {Result.NOT_PROVEN, Result.PROVEN}
