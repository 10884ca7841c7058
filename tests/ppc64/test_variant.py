"""The ABI variant, and that nothing else in the rewriter knows its byte order and its slot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest

import scpatch
from scpatch.ppc64.asm import encode
from scpatch.ppc64.variant import VARIANT

PACKAGE = Path(scpatch.__file__).parent
VARIANT_FILE = PACKAGE / "ppc64" / "variant.py"
FORBIDDEN = (
    re.compile(r"0x[ef]8410018", re.IGNORECASE),
    re.compile(r"\(4, .little.\)"),
)
"""`std r2,24(r1)` and `ld r2,24(r1)` as numbers, and instructions as bytes."""


def rewriter_files() -> list[Path]:
    verifier = PACKAGE / "verifier"
    return [path for path in PACKAGE.rglob("*.py") if verifier not in path.parents]


def test_save_and_restore_are_what_keystone_makes() -> None:
    assert VARIANT.save_r2 == encode("std 2,24(1)")
    assert VARIANT.restore_r2 == encode("ld 2,24(1)")
    assert VARIANT.toc_save == 24


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_instructions_in_both_byte_orders(byte_order: Literal["little", "big"]) -> None:
    variant = VARIANT._replace(byte_order=byte_order)
    code = variant.encode(0x12345678, 0x9ABCDEF0)
    assert code.hex() == {"little": "78563412f0debc9a", "big": "123456789abcdef0"}[byte_order]
    assert variant.words(code + b"\1\2").tolist() == [0x12345678, 0x9ABCDEF0]
    assert variant.word(memoryview(code), 4) == 0x9ABCDEF0
    assert [variant.column(code, number).hex() for number in range(4)] == [
        *("129a", "34bc", "56de", "78f0")
    ]


def test_only_the_variant_knows_the_machine() -> None:
    lines = {
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in rewriter_files()
        for line in path.read_text().splitlines()
        if path != VARIANT_FILE and any(pattern.search(line) for pattern in FORBIDDEN)
    }
    # The digest in a stub's name counts symbols; no instruction is in it.
    assert lines <= {'strategies/digest.py: state.update(index.to_bytes(4, "little"))'}
