"""The proof of marked and unmarked trampolines: what it accepts, and what it finds out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.verifier.execute import execute
from scpatch.verifier.files import verify_files
from scpatch.verifier.options import KernelOffsets, VerifyOptions
from scpatch.verifier.tools import find_tools
from tests import tools
from tests.bigendian import prove_both
from tests.strategies.localentry_support import CALLER, PACA_TOC, TRAMPOLINE, marked
from tests.tools import NOP, assemble

T = "__SCT__x"
BODY = (
    TRAMPOLINE.format(name=T)
    + TRAMPOLINE.format(name="__SCT__y")
    + ".type __SCT__local,@function\n__SCT__local: b target\n .size __SCT__local,.-__SCT__local\n"
    + "FUNC other\n blr\n END other\n"
    + '.section .text.callers,"ax",@progbits\n'
    + CALLER.format(name="plain", call=f"bl {T}\n nop")
    + CALLER.format(name="cror", call="bl __SCT__y\n cror 15,15,15")
    + CALLER.format(name="by_section", call="bl __SCT__local\n nop")
    + CALLER.format(name="local_entry", call=".reloc .,R_PPC64_REL24,.text+8\n bl .\n nop")
    + CALLER.format(name="elsewhere", call="bl __SCT__z\n nop")
)


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return assemble(tmp_path, BODY)


def patch(path: Path, section: str, offset: int, data: bytes) -> None:
    header = tools.section(path, section)
    with path.open("r+b") as file:
        file.seek(header.offset + offset)
        file.write(data)


def word(value: int) -> bytes:
    return value.to_bytes(4, "little")


def other(path: Path, name: str, value: int) -> None:
    """Sets the st_other of a symbol."""
    patch(path, ".symtab", 24 * tools.symbol(path, name).index + 5, bytes([value]))


def record(path: Path, table: str, offset: int) -> int:
    """Where in its table the relocation at a section offset is."""
    places = [
        relocation.offset for relocation in tools.relocations(path) if relocation.table == table
    ]
    return 24 * places.index(offset)


def messages(before: Path, after: Path) -> str:
    return "\n".join(prove_both(before, after).errors)


@pytest.mark.parametrize("paca", [False, True])
def test_every_site_is_the_linkers(before: Path, paca: bool) -> None:
    proof = prove_both(before, marked(before, paca=paca))
    assert proof.errors == ()
    assert [(site.state, site.right, site.was_right) for site in proof.sites] == [
        ("linker", True, False)
    ] * 5


@pytest.mark.parametrize("paca", [False, True])
def test_every_site_runs(before: Path, paca: bool) -> None:
    options = VerifyOptions(offsets=KernelOffsets(paca_toc=PACA_TOC if paca else None))
    after = marked(before, paca=paca)
    (verdict,) = verify_files(before, after, options, find_tools())
    assert verdict.runs is not None
    assert [(run.before.passed, run.after.reasons) for run in verdict.runs] == [(False, ())] * 5
    assert verdict.proven


def test_the_prologue_runs_too(before: Path) -> None:
    """With the TOC at another place of the PACA the trampolines load something else."""
    after = marked(before, paca=True)
    proof = prove_both(before, after)
    sites = [
        replace(site, marked=False) for site in proof.sites if site.trampoline in (T, "__SCT__y")
    ]
    for offset, wrong in ((PACA_TOC, False), (32, True)):
        outcomes = execute(after, sites, find_tools(), offsets=KernelOffsets(paca_toc=offset))
        for outcome in outcomes:
            reasons = " ".join(outcome.reasons)
            assert ("r2 changed" in reasons and "on the way to the target" in reasons) == wrong
            assert outcome.passed != wrong


@pytest.mark.parametrize("paca", [False, True])
def test_unmarking_is_proven(before: Path, paca: bool) -> None:
    first = marked(before, paca=paca)
    second = marked(first, strategy="callsite", unmark=True)
    proof = prove_both(first, second)
    assert proof.errors == ()
    assert [(site.state, site.was_right) for site in proof.sites] == [("stub", True)] * 5
    options = VerifyOptions(offsets=KernelOffsets(paca_toc=PACA_TOC if paca else None))
    (verdict,) = verify_files(first, second, options, find_tools())
    assert verdict.proven


def _prologue_left(path: Path) -> None:
    patch(path, ".text", 0, word(0x3C4C0000) + word(0x38420000))


BROKEN: dict[str, tuple[bool, Callable[[Path], None], str]] = {
    "prologue computes from r12": (
        True,
        _prologue_left,
        "the relocations of its prologue were changed",
    ),
    "another load": (
        True,
        lambda path: patch(path, ".text", 0, word(0xE84C0010)),
        "something that does not set r2",
    ),
    "ldu": (True, lambda path: patch(path, ".text", 0, word(0xE84D0011)), "does not set r2"),
    "two offsets": (
        True,
        lambda path: patch(path, ".text", 0, word(0xE84D0018)),
        "r2 is loaded from 16(r13), not 24(r13)",
    ),
    "no nop after it": (
        True,
        lambda path: patch(path, ".text", 4, word(0x38420000)),
        "the second word of what was its prologue",
    ),
    "relocation left": (
        True,
        lambda path: patch(path, ".rela.text", 8, (252).to_bytes(8, "little")),
        "a relocation changes what was put",
    ),
    "nothing after the prologue": (
        True,
        lambda path: patch(path, ".text", 8, word(NOP)),
        "do not belong to a static call",
    ),
    "what is after a trampoline of one instruction": (
        True,
        lambda path: patch(path, ".text", tools.symbol(path, "other").value, word(NOP)),
        "in other: bytes were changed",
    ),
    "visibility": (True, lambda path: other(path, T, 0x22), "old entry of the symbol table"),
    "another function marked": (
        True,
        lambda path: other(path, "other", 0x20),
        "old entry of the symbol table",
    ),
    "not marked": (
        True,
        lambda path: other(path, "__SCT__y", 0x60),
        "do not belong to a static call",
    ),
    "wrong value": (True, lambda path: other(path, T, 0xE0), "old entry of the symbol table"),
    "a nop that only one linker knows": (
        True,
        lambda path: patch(path, ".text.callers", 0x70, word(0x4FFFFB82)),
        "not a nop that every linker knows",
    ),
    "branch back too far": (
        False,
        lambda path: patch(
            path, ".text", tools.section(path, ".text").size - 4, word(0x48000000 | 0x3FFFFFC)
        ),
        "does not set r2 and go on after the prologue",
    ),
    "code at the end": (
        False,
        lambda path: patch(path, ".text", tools.section(path, ".text").size - 28, word(NOP)),
        "does not set r2",
    ),
    "wrong distance": (
        False,
        lambda path: patch(path, ".rela.text", tools.section(path, ".rela.text").size - 8, b"\x08"),
        "not the distance to .TOC.",
    ),
    "branch to another's code": (
        False,
        lambda path: patch(path, ".text", 0x20, tools_branch(path, ".text", 0x20, 0)),
        "no trampoline branches to it",
    ),
}


def tools_branch(path: Path, section: str, source: int, trampoline: int) -> bytes:
    """The branch of one trampoline to the code of another."""
    first = tools.code(path, section)[trampoline // 4] & 0x3FFFFFC
    return word(0x48000000 | (trampoline + first - source) & 0x3FFFFFC)


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_proof_reports(before: Path, name: str) -> None:
    paca, change, wanted = BROKEN[name]
    after = marked(before, paca=paca)
    assert messages(before, after) == ""
    old = after.read_bytes()
    change(after)
    assert after.read_bytes() != old
    assert wanted in messages(before, after)


def test_a_site_that_no_linker_sees(before: Path) -> None:
    """The relocation names the section again: no stub, and the proof knows."""
    after = marked(before, paca=True)
    (site,) = [site for site in prove_both(before, after).sites if site.function == "by_section"]
    old = next(
        relocation
        for relocation in tools.relocations(before)
        if (relocation.table, relocation.offset) == (".rela.text.callers", site.offset)
    )
    info = (old.symbol << 32 | 10).to_bytes(8, "little") + old.addend.to_bytes(8, "little")
    patch(after, ".rela.text.callers", record(after, ".rela.text.callers", site.offset) + 8, info)
    (site,) = [site for site in prove_both(before, after).sites if site.function == "by_section"]
    assert (site.state, site.right) == ("left", False)
    assert "names no marked symbol" in site.why


def test_a_module_is_not_marked(tmp_path: Path) -> None:
    module = ' .section .gnu.linkonce.this_module,"aw"\n .quad 0\n'
    path = assemble(tmp_path, f"FUNC {T}\n b target\n END {T}\n" + module)
    after = tmp_path / "after.o"
    after.write_bytes(path.read_bytes())
    other(after, T, 0x20)
    assert "no linker follows" in messages(path, after)


def test_half_unmarked_is_an_error(before: Path) -> None:
    first = marked(before, paca=True)
    second = marked(first, strategy="callsite", unmark=True)
    assert messages(first, second) == ""
    other(second, T, 0x20)
    assert "no linker accepts a branch without nop" in messages(first, second)


def test_the_note_of_what_was_undone_goes(before: Path) -> None:
    first = marked(before, paca=True)
    second = marked(first, strategy="callsite", unmark=True)
    data = second.read_bytes()
    at = data.index(b"scpatch strategy callsite")
    size = len(b"scpatch strategy localentry")
    assert data[at - size - 1 : at] == bytes(size + 1)
    patch(second, ".comment", 0, b"\1")
    assert ".comment: the note of what was undone is still there" in messages(first, second)
