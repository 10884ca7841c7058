"""The proof on files whose nops load r2 from the PACA: what it takes, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.verifier.types import Proof
from tests.bigendian import prove_both
from tests.tools import NOP, code, section

Assemble = Callable[..., Path]

TRAMPOLINE = "FUNC __SCT__x\n blr\nEND __SCT__x\n"
TWO = f"FRAME f\nCALL __SCT__x\nCALL __SCT__x\nLEAVE f\n{TRAMPOLINE}"
LOAD = 0xE84D0010


def patched(path: Path, words: dict[int, int]) -> Path:
    """A copy with other words in .text, by their number, as somebody else would write them."""
    start = section(path, ".text").offset
    data = bytearray(path.read_bytes())
    for number, word in words.items():
        data[start + 4 * number : start + 4 * number + 4] = word.to_bytes(4, "little")
    new = path.with_name("patched-" + path.name)
    new.write_bytes(data)
    return new


def nops(path: Path) -> list[int]:
    return [number for number, word in enumerate(code(path)) if word == NOP]


def proof(path: Path, *loads: int, offset: int | None = None) -> Proof:
    """The proof of a copy in which the nops are `loads`."""
    words = dict(zip(nops(path), loads, strict=False))
    return prove_both(path, patched(path, words), paca_toc=offset)


def test_right_words(assemble: Assemble) -> None:
    judged = proof(assemble(TWO), LOAD, LOAD)
    assert judged.errors == ()
    assert [(site.state, site.right, site.was_right) for site in judged.sites] == [
        ("paca", True, False)
    ] * 2
    assert judged.paca_toc == 16
    assert judged.sites[0].why == "r2 is loaded from the PACA, 16(r13)"


def test_a_site_left_out_is_told(assemble: Assemble) -> None:
    judged = proof(assemble(TWO), LOAD)
    assert [site.state for site in judged.sites] == ["paca", "left"]
    assert judged.errors == ()


def test_two_offsets(assemble: Assemble) -> None:
    judged = proof(assemble(TWO), LOAD, LOAD + 8)
    assert judged.errors == (".text+0x1c in f: r2 is loaded from 24(r13), not 16(r13).",)


@pytest.mark.parametrize("given", [8, 24])
def test_another_offset_than_the_kernels(assemble: Assemble, given: int) -> None:
    path = assemble(TWO)
    assert proof(path, LOAD, LOAD, offset=16).errors == ()
    errors = proof(path, LOAD, LOAD, offset=given).errors
    assert len(errors) == 2
    assert errors[0].endswith(f"r2 is loaded from 16(r13), not {given}(r13).")


def test_in_a_file_that_was_done_before(assemble: Assemble) -> None:
    path = assemble(TWO)
    done = patched(path, dict.fromkeys(nops(path), LOAD))
    judged = prove_both(done, done)
    assert [site.state for site in judged.sites] == ["done", "done"]
    assert judged.errors == ()
    assert len(prove_both(done, done, paca_toc=8).errors) == 2


NEARLY = {
    "another register": 0xE86D0010,
    "another base": 0xE84C0010,
    "with update": 0xE84D0011,
    "lwa": 0xE84D0012,
    "lwz": 0x804D0010,
    "std": 0xF84D0010,
}


@pytest.mark.parametrize("name", NEARLY)
def test_words_that_are_nearly_it(assemble: Assemble, name: str) -> None:
    judged = proof(assemble(TWO), NEARLY[name])
    assert judged.sites[0].state == "wrong"
    assert not judged.sites[0].right
    assert "r2 is wrong after it: no nop follows" in judged.errors[0]


def test_in_a_module_it_is_an_error(assemble: Assemble) -> None:
    module = '.section .gnu.linkonce.this_module, "aw"\n.skip 64\n'
    judged = proof(assemble(TWO + module), LOAD, LOAD)
    assert [site.state for site in judged.sites] == ["wrong", "wrong"]
    assert "and this is a module" in judged.errors[0]


def test_a_marked_trampoline(assemble: Assemble) -> None:
    """GNU ld: call to `__SCT__x' lacks nop, can't restore toc."""
    marked = TWO.replace("FUNC __SCT__x\n", "FUNC __SCT__x\n.localentry __SCT__x, 1\n")
    judged = proof(assemble(marked), LOAD)
    assert judged.sites[0].state == "wrong"
    assert "the linker wants a nop" in judged.errors[0]


def test_another_word_that_changed(assemble: Assemble) -> None:
    path = assemble(TWO)
    first = nops(path)[0]
    errors = prove_both(path, patched(path, {first: LOAD, first - 2: NOP})).errors
    assert len(errors) == 1
    assert "bytes were changed that do not belong to a static call" in errors[0]
    errors = prove_both(path, patched(path, {first: LOAD, first - 1: 0x48000011})).errors
    assert "bytes were changed that do not belong to a static call" in errors[0]


def test_an_instruction_that_was_no_nop(assemble: Assemble) -> None:
    path = assemble(TWO.replace("CALL __SCT__x", "bl __SCT__x\n mr 3, 4", 1))
    judged = prove_both(path, patched(path, {6: LOAD}))
    assert any("overwrote an instruction that is not a nop" in error for error in judged.errors)


def test_a_relocation_on_the_word(assemble: Assemble) -> None:
    source = TWO.replace("CALL __SCT__x", "bl __SCT__x\n1: nop\n.reloc 1b, R_PPC64_ADDR16_LO, f", 1)
    judged = proof(assemble(source), LOAD)
    assert judged.sites[0].why == "a relocation applies to the word after the call"
