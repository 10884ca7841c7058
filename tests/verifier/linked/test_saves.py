"""Saves in an image that the kernel may replace when it starts: its tables tell where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.strategies.localentry_support import LINKERS
from tests.tools import assemble
from tests.verifier.linked.support import T, link, look, states, with_trampoline

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
