"""Saves in an image that the kernel may replace when it starts: its tables tell where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.strategies.localentry_support import LINKERS
from tests.tools import LD, assemble, section, symbol
from tests.verifier.linked.support import T, far, link, look, states, with_trampoline

SAVED = "std 2,24(1)\n"
CALL = f"bl {T}\n ld 2,24(1)\n"

CASES = {
    "in a feature section": (f"1: {SAVED} 2: {CALL}", "__ftr_fixup", "nop", "restored"),
    "in an mmu section": (f"1: {SAVED} 2: {CALL}", "__mmu_ftr_fixup", "nop", "restored"),
    "before an alternative": (f"{SAVED} 1: nop\n 2: {CALL}", "__ftr_fixup", "mr 5, 6", "saved"),
    "before an alternative that stores": (
        f"{SAVED} 1: nop\n 2: {CALL}",
        "__ftr_fixup",
        "std 5, 24(1)",
        "restored",
    ),
    "after an alternative": (f"1: nop\n 2: {SAVED} {CALL}", "__fw_ftr_fixup", "nop", "saved"),
}


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize(("body", "name", "other", "want"), CASES.values(), ids=CASES)
def test_a_save(tmp_path: Path, linker: str, body: str, name: str, other: str, want: str) -> None:
    alternative = f'.section .text.alt, "ax"\n3: {other}\n4: .text\n'
    table = f'.section {name}, "a"\n .balign 8\n5: .quad 1, 1, 1b-5b, 2b-5b, 3b-5b, 4b-5b\n'
    symbols = f" .data\n .quad __start_{name}, __stop_{name}\n .text\n"
    source = with_trampoline(body + alternative + table + symbols)
    path = link(tmp_path, linker, assemble(tmp_path, source))
    assert states(look(path)) == {"f": want}


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize(("words", "want"), [(0, "restored"), (3, "saved")])
def test_a_save_after_the_start_of_a_barrier(
    tmp_path: Path, linker: str, words: int, want: str
) -> None:
    body = "1: " + "nop\n" * words + SAVED + CALL
    body += '.section __rfi_flush_fixup, "a"\n .balign 8\n5: .quad 1b-5b\n'
    body += " .data\n .quad __start___rfi_flush_fixup, __stop___rfi_flush_fixup\n .text\n"
    source = with_trampoline(body)
    path = link(tmp_path, linker, assemble(tmp_path, source))
    assert states(look(path)) == {"f": want}


CALLEES = {
    "a function": ("FUNC other\n blr\n END other\n", "saved"),
    "with two entry points": ("TOC other\n blr\n END other\n", "saved"),
    "of no size": ("FUNC other\n blr\n", "saved"),
    "with two entry points, of no size": ("TOC other\n blr\n", "saved"),
    "out of reach": ('.section .far, "ax"\nFUNC other\n blr\n END other\n .text\n', "saved"),
    "with two entry points, out of reach": (
        '.section .far, "ax"\nTOC other\n blr\n END other\n .text\n',
        "saved",
    ),
    "without a name": ("nop\n9: blr\n", "restored"),
}


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize(("callee", "want"), CALLEES.values(), ids=CALLEES)
def test_a_save_after_a_call(tmp_path: Path, linker: str, callee: str, want: str) -> None:
    """The callee must be seen to return with r2 as it was."""
    name = "other" if "other" in callee else "9b"
    source = callee + with_trampoline(f"bl {name}\n {SAVED} {CALL}")
    options = far(tmp_path, 0x14000000) if ".far" in callee else None
    path = link(tmp_path, linker, assemble(tmp_path, source), options=options)
    assert states(look(path)) == {"f": want}


@pytest.mark.parametrize(("other", "want"), [(0, "saved"), (1, "restored"), (7, "restored")])
def test_a_save_after_a_call_that_may_clobber_r2(tmp_path: Path, other: int, want: str) -> None:
    """No linker makes such an image of objects: st_other is changed in the image."""
    source = "FUNC other\n blr\n END other\n" + with_trampoline(f"bl other\n {SAVED} {CALL}")
    path = link(tmp_path, LD, assemble(tmp_path, source))
    table, index = section(path, ".symtab"), symbol(path, "other").index
    data = bytearray(path.read_bytes())
    data[table.offset + 24 * index + 5] = other << 5
    path.write_bytes(data)
    assert states(look(path)) == {"f": want}


def test_a_save_after_a_call_of_a_trampoline(tmp_path: Path) -> None:
    source = with_trampoline(f"bl {T}\n {SAVED} {CALL}")
    path = link(tmp_path, LD, assemble(tmp_path, source))
    assert [str(site.state) for site in look(path).proof.sites] == ["wrong", "restored"]
