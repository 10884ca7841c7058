"""The proof of trampolines that keep r2: the code by what it does, and what may have changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.verifier.files import verify_files
from scpatch.verifier.reasons.livepatch_stack import Offsets, read_code
from scpatch.verifier.tools import find_tools
from scpatch.verifier.types import Proof
from tests.bigendian import prove_both
from tests.elfwriter import STB_WEAK, STT_FUNC, Elf, Symbol
from tests.elfwriter import words as packed
from tests.strategies.livepatch_support import BCTR, of_the_thread, rewritten, trampoline
from tests.tools import assemble as assemble_file
from tests.verifier.execute.livepatch_support import LINES, words
from tests.verifier.execute.test_livepatch_stack import DAMAGE
from tests.verifier.proof.support import Change, assemble, prove_change, text

MARK = "scpatch strategy livepatch-stack\0"
COMMENT = '.ident "gcc"\n'
CALLER = """
        .text
        .globl f
        .type f, @function
f:      mflr 0
        std 0, 16(1)
        stdu 1, -32(1)
        bl __SCT__x
        nop
        addi 1, 1, 32
        ld 0, 16(1)
        mtlr 0
        blr
        .size f, .-f
"""


def offsets(lines: tuple[str, ...], directory: Path) -> Offsets | None:
    return read_code(words(lines, directory))


def test_the_code_of_the_docs(tmp_path: Path) -> None:
    assert offsets(LINES, tmp_path) == Offsets(2312, 16)


@pytest.mark.parametrize("name", DAMAGE)
def test_what_fails_in_a_run_is_not_the_code(tmp_path: Path, name: str) -> None:
    assert offsets(DAMAGE[name][0], tmp_path) is None


def test_every_bit_of_the_code_counts(tmp_path: Path) -> None:
    """Only the kernel's offsets may differ, and each must differ everywhere."""
    right = words(LINES, tmp_path)
    for at in range(len(right)):
        for bit in range(32):
            wrong = [*right[:at], right[at] ^ 1 << bit, *right[at + 1 :]]
            assert read_code(wrong) is None, (at, bit)


def test_the_code_is_whole(tmp_path: Path) -> None:
    right = words(LINES, tmp_path)
    for at in range(len(right)):
        assert read_code(right[:at]) is None
        assert read_code([*right[:at], 0x60000000, *right[at:]]) is None


@pytest.mark.parametrize(
    ("thread_info", "livepatch_sp", "right"),
    [
        (0, 0, True),
        (0x7FF8, 1016, True),
        (8, 16, True),
        (-8, 16, False),
        (8, -8, False),
        (8, 1024, False),
        (12, 16, False),
        (8, 20, False),
    ],
)
def test_the_offsets_that_the_code_may_use(
    tmp_path: Path, thread_info: int, livepatch_sp: int, right: bool
) -> None:
    """Doublewords of the PACA and of the thread_info."""
    lines = tuple(
        line.replace("2312(13)", f"{thread_info}(13)").replace("16(12)", f"{livepatch_sp}(12)")
        for line in LINES
    )
    wanted = Offsets(thread_info, livepatch_sp) if right else None
    assert offsets(lines, tmp_path) == wanted


def pair(directory: Path, source: str = "") -> tuple[Elf, int, int, Change, Change]:
    """An object, where its `bctr` and the end of its code are, and the change that is right."""
    elf = assemble(directory, COMMENT + CALLER + (source or trampoline()))
    code = text(elf)
    exit_, end = code.index(packed(BCTR)), len(code)
    symbol = Symbol(
        name="r2lps.0123456789ab",
        value=end,
        size=96,
        type=STT_FUNC,
        bind=STB_WEAK,
        other=2,
        section=".text",
    )
    change = Change(
        words={exit_: 0x48000000 | end - exit_},
        append=packed(*words(LINES, directory)),
        symbols=[symbol],
    )
    return elf, exit_, end, change, Change(section=".comment", append=MARK.encode())


@pytest.mark.parametrize(("form", "length"), [(trampoline, 16), (of_the_thread, 12)])
def test_a_right_change(tmp_path: Path, form: Callable[[], str], length: int) -> None:
    elf, exit_, end, change, note = pair(tmp_path, form())
    proof = prove_change(tmp_path, elf, change, note)
    assert proof.errors == ()
    (site,) = proof.sites
    assert (site.state, site.right, site.was_right) == ("trampoline", True, False)
    assert site.ctr_path == (exit_ - length, exit_)
    assert site.code == (end, 96)
    assert proof.livepatch == (2312, 16)


def test_a_change_without_a_note(tmp_path: Path) -> None:
    elf, _, _, change, _ = pair(tmp_path)
    errors = prove_change(tmp_path, elf, change).errors
    assert any("is no good: no trampoline branches to it" in error for error in errors)


def test_a_note_without_a_change(tmp_path: Path) -> None:
    elf, *_, note = pair(tmp_path)
    (error, *_) = prove_change(tmp_path, elf, note).errors
    assert "leaves at .text+" in error


def wrong_change(name: str, change: Change, exit_: int, end: int) -> Change:
    """The right change, spoilt."""
    symbol = change.symbols[0]
    nops = packed(0x60000000)
    data = {
        "the word before": replace(change, words={**change.words, exit_ - 4: 0x60000000}),
        "bl": replace(change, words={exit_: change.words[exit_] | 1}),
        "into the code": replace(change, words={exit_: change.words[exit_] + 4}),
        "something else": replace(change, words={**change.words, 0: 0x60000000}),
        "the call's nop": replace(change, words={**change.words, 16: 0xE8410018}),
        "code damaged": replace(change, append=nops + change.append[4:]),
        "code twice": replace(change, append=change.append * 2),
        "bytes after": replace(change, append=change.append + nops),
        "no symbol": replace(change, symbols=[]),
        "two symbols": replace(
            change, symbols=[symbol, replace(symbol, name="r2lps.ba9876543210")]
        ),
        "its size": replace(change, symbols=[replace(symbol, size=92)]),
        "its name": replace(change, symbols=[replace(symbol, name="r2lps.x")]),
        "its binding": replace(change, symbols=[replace(symbol, bind=1)]),
        "its visibility": replace(change, symbols=[replace(symbol, other=0)]),
        "its place": replace(change, symbols=[replace(symbol, value=end + 4)]),
        "the name of another": replace(change, symbols=[replace(symbol, name="f")]),
    }
    return data[name]


WRONG_CHANGES = {
    "the word before": "no path to another TOC that preserves r2",
    "bl": "no path to another TOC that preserves r2",
    "into the code": "and that is not the code that saves r2 on the livepatch stack",
    "something else": ".text+0x0 in f: bytes were changed that do not belong to a static call",
    "the call's nop": "a call was changed, which livepatch-stack does not do",
    "code damaged": "and that is not the code that saves r2 on the livepatch stack",
    "code twice": "bytes were appended that are not a stub",
    "bytes after": "bytes were appended that are not a stub",
    "no symbol": "no stub, and no branch over the appended code",
    "two symbols": "was appended and names no appended code",
    "its size": "must be a hidden function of 96 bytes with st_other 2",
    "its name": "(r2lps.x) was appended and names no appended code",
    "its binding": "must be weak",
    "its visibility": "must be a hidden function of 96 bytes with st_other 2",
    "its place": "no trampoline branches to it",
    "the name of another": "(f) was appended and names no appended code",
}


@pytest.mark.parametrize(("name", "error"), WRONG_CHANGES.items(), ids=WRONG_CHANGES)
def test_a_wrong_change(tmp_path: Path, name: str, error: str) -> None:
    elf, exit_, end, change, note = pair(tmp_path)
    errors = prove_change(tmp_path, elf, wrong_change(name, change, exit_, end), note).errors
    assert any(error in text for text in errors), errors


BEFORE_THE_EXIT = {
    "nop": True,
    "mtlr 12": False,
    "ld 2, 24(12)": False,
    "addi 2, 2, 0": False,
    "stdu 1, -32(1)": False,
    "ld 2, 24(1)": False,
    "bl f": False,
    "std 2, 24(1)": True,
}


@pytest.mark.parametrize(("line", "allowed"), BEFORE_THE_EXIT.items(), ids=BEFORE_THE_EXIT)
def test_what_a_trampoline_may_do_before(tmp_path: Path, line: str, allowed: bool) -> None:
    source = trampoline(slow=f"{line}\n mtctr 12\n bctr")
    elf, _, _, change, note = pair(tmp_path, source)
    errors = prove_change(tmp_path, elf, change, note).errors
    if allowed:
        assert errors == ()
    else:
        assert any("__SCT__x may write r1, r2 or LR" in error for error in errors), errors


def test_another_exit_is_left(tmp_path: Path) -> None:
    """Of two exits the second still leaves for good."""
    source = trampoline(slow="mtctr 12\n bctr\n mtctr 12\n bctr")
    elf, _, _, change, note = pair(tmp_path, source)
    proof = prove_change(tmp_path, elf, change, note)
    assert any("leaves at" in error for error in proof.errors)
    assert [site.state for site in proof.sites] == ["left"]


def rewritten_pair(directory: Path, source: str, name: str = "x.o") -> tuple[Path, Path]:
    before = assemble_file(directory, source, name)
    return before, rewritten(before)


def states(proof: Proof) -> list[str]:
    return [site.state for site in proof.sites]


def test_what_scpatch_does(tmp_path: Path) -> None:
    calls = "CALL __SCT__x\n bl __SCT__x\n mr 3, 4\n CALL __SCT__y\n"
    source = f"FRAME f\n{calls}LEAVE f\nFUNC g\n b __SCT__x\nEND g\n"
    far = '.section .text.far, "ax"\n' + of_the_thread("__SCT__z")
    before, after = rewritten_pair(tmp_path, source + trampoline() + far)
    proof = prove_both(before, after)
    assert proof.errors == ()
    assert states(proof) == ["trampoline", "trampoline", "elsewhere", "trampoline"]
    assert [site.sibling for site in proof.sites] == [False, False, False, True]
    assert states(prove_both(after, after)) == states(proof)
    undone = prove_both(after, before).errors
    assert undone[-1] == "there are 10 sections instead of 11."


def test_only_noted(tmp_path: Path) -> None:
    before, after = rewritten_pair(tmp_path, "FRAME f\nCALL __SCT__x\nLEAVE f\n")
    proof = prove_both(before, after)
    assert proof.errors == ()
    assert states(proof) == ["elsewhere"]


def test_the_offsets_of_another_kernel(tmp_path: Path) -> None:
    before, after = rewritten_pair(tmp_path, "FRAME f\nCALL __SCT__x\nLEAVE f\n" + trampoline())
    assert prove_both(before, after, livepatch_offsets=(2312, 16)).errors == ()
    for wanted in ((2304, 16), (2312, 24)):
        (error,) = prove_both(before, after, livepatch_offsets=wanted).errors
        assert "the livepatch stack is looked for by (2312, 16)" in error


def test_a_rewrite_is_proven_and_run(tmp_path: Path) -> None:
    """Each call ran, lost r2 before, keeps it now; all forms of calls, and both of trampolines."""
    calls = "CALL __SCT__x\nCALL __SCT__z\nbl __SCT__x\nmr 3, 4\nCALL __SCT__y\n"
    source = f"FRAME f\n{calls}LEAVE f\nFUNC g\n b __SCT__x\nEND g\nFUNC first\n blr\nEND first\n"
    before, after = rewritten_pair(tmp_path, source + trampoline() + of_the_thread("__SCT__z"))
    (verdict,) = verify_files(before, after, tools=find_tools())
    assert verdict.proven
    assert len(verdict.runs or ()) == 4
    for run in verdict.runs or ():
        assert not run.before.passed
        assert run.before.reached
        assert run.after.passed
    (undone,) = verify_files(before, before, tools=find_tools())
    assert not undone.proven
