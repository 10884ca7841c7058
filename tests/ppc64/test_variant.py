"""The ABI variant, and that nothing else in the rewriter knows its byte order and its slot."""

from __future__ import annotations

import re
from pathlib import Path

import scpatch
from scpatch.ppc64.asm import encode
from scpatch.ppc64.variant import RESTORE_R2, SAVE_R2, TOC_SAVE
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
    assert encode("std 2,24(1)") == SAVE_R2
    assert encode("ld 2,24(1)") == RESTORE_R2
    assert TOC_SAVE == 24


def test_byte_order_and_slot_are_known_in_one_place() -> None:
    lines = {
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in rewriter_files()
        for line in path.read_text().splitlines()
        if path.relative_to(PACKAGE).as_posix() not in KNOWING and MACHINE.search(line)
    }
    assert lines == EXCEPTIONS
