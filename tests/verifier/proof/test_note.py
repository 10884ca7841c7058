"""The note of the strategy in `.comment`, and the section that a file may get for it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from scpatch.verifier.objects import record
from scpatch.verifier.objects.read import read
from scpatch.verifier.proof import prove
from tests.tools import FIXTURES, in_both, rewritten, section, sections

BODY = "FRAME f\nCALL __SCT__x\nLEAVE f\nFUNC __SCT__x\n blr\nEND __SCT__x\n"
IDENT = ' .ident "some compiler"\n'
WRONG_NOTE = r"\.comment(\+0x[0-9a-f]+)?: "
WRONG_NAME = r"a name is not inside its string table|section \d \(.*\) was added"
WRONG_HEADER = "|".join(
    (
        WRONG_NOTE,
        WRONG_NAME,
        r"the header of section \d \(\.\w+\) was changed",
        r"section \d is not inside the file",
        r"the file holds bytes after section \d \(\.\w+\) that belong to nothing",
        "the symbol table is damaged",
        r"\.rela\.text: relocations that name another symbol table",
        r"\.strtab: an old entry of the string table was changed",
        r"\.strtab: names were appended that nothing new has",
        r"\.shstrtab\+0x1: bytes were changed",
    )
)
"""The first error, if a byte of a header says where other contents are."""


@pytest.fixture(params=["", IDENT], ids=["new section", "old section"])
def pair(assemble: Callable[..., Path], request: pytest.FixtureRequest) -> tuple[Path, Path]:
    before = assemble(BODY + request.param)
    return before, rewritten(before)


def errors(before: Path, after: Path, data: bytes | bytearray) -> tuple[str, ...]:
    damaged = after.with_name("damaged.o")
    damaged.write_bytes(data)
    return prove(before, damaged).errors


def test_it_is_proven(pair: tuple[Path, Path]) -> None:
    assert prove(*pair).errors == ()
    assert errors(*pair, pair[1].read_bytes()) == ()


def test_every_flipped_byte_of_what_was_added_is_an_error(pair: tuple[Path, Path]) -> None:
    """In the note, the header of its section, the number of sections and their names."""
    before, after = pair
    data = after.read_bytes()
    note, names = section(after, ".comment"), section(after, ".shstrtab")
    table = int.from_bytes(data[40:48], "little")
    new_names = names.offset + section(before, ".shstrtab").size
    headers = range(table + 64 * note.index, table + 64 * len(sections(after)))
    expected = dict.fromkeys(range(note.offset, note.offset + note.size), WRONG_NOTE)
    expected |= dict.fromkeys((60, 61), "the section header table is not inside the file")
    expected |= dict.fromkeys(range(new_names, names.offset + names.size), WRONG_NAME)
    expected |= dict.fromkeys(headers, WRONG_HEADER)
    chosen = random.Random(2072)
    for offset, error in expected.items():
        damaged = bytearray(data)
        damaged[offset] ^= 1 << chosen.randrange(8)
        assert re.match(error, errors(before, after, damaged)[0]), f"{offset:#x}"


def test_another_strategy_was_noted(pair: tuple[Path, Path]) -> None:
    data = pair[1].read_bytes().replace(b"strategy callsite", b"strategy localent")
    assert errors(*pair, data) == (".comment: strategy localent was noted, callsite was applied.",)


def test_a_note_without_a_change(assemble: Callable[..., Path]) -> None:
    before = assemble(BODY)
    after = assemble(BODY + ' .ident "scpatch strategy callsite"\n', "y.o")
    noted = ".comment: strategy callsite was noted, none was applied."
    assert noted in record.faults(read(before), read(after), frozenset())


@pytest.mark.parametrize("name", in_both("calls-gcc.o"))
def test_an_empty_section_whose_old_text_follows(tmp_path: Path, name: str) -> None:
    """The note goes before bytes that followed another section; they stay, and are looked at."""
    before, data = tmp_path / "before.o", bytearray((FIXTURES / name).read_bytes())
    with (FIXTURES / name).open("rb") as file:
        elf: Any = ELFFile(file)
        number = elf.get_section_index(".comment")
        old = elf.get_section(number).data()
    at = elf["e_shoff"] + 64 * number + 32
    data[at : at + 8] = bytes(8)
    before.write_bytes(data)
    after = rewritten(before, undefined="rewrite")
    assert prove(before, after).errors == ()
    new = bytearray(after.read_bytes())
    new[new.index(old) + 3] ^= 1
    after.write_bytes(new)
    assert any("belong to nothing" in error for error in prove(before, after).errors)
