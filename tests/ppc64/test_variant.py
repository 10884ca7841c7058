"""The ABI variant, and that nothing else in the rewriter knows its byte order and its slot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest

import scpatch
from scpatch.ppc64.asm import encode
from scpatch.ppc64.variant import VARIANT
from tests.tools import library

PACKAGE = Path(scpatch.__file__).parent
MACHINE = re.compile(r"0x[ef]8410018|[\"']little[\"']|[\"']<[BHIQbhiq]+[\"']", re.IGNORECASE)
"""`std r2,24(r1)` and `ld r2,24(r1)` as numbers, and numbers as bytes in a fixed order."""
KNOWING = ("ppc64/variant.py", "elf/encoding.py")
# The digest in a stub's name counts symbols; it is no part of the file's tables.
EXCEPTIONS = {'strategies/added_code.py: state.update(index.to_bytes(4, "little"))'}


def rewriter_files() -> list[Path]:
    verifier = PACKAGE / "verifier"
    return [path for path in PACKAGE.rglob("*.py") if verifier not in path.parents]


def test_save_and_restore_are_what_keystone_makes() -> None:
    library("keystone")
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


def test_byte_order_and_slot_are_known_in_one_place() -> None:
    lines = {
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in rewriter_files()
        for line in path.read_text().splitlines()
        if path.relative_to(PACKAGE).as_posix() not in KNOWING and MACHINE.search(line)
    }
    assert lines == EXCEPTIONS
