"""The note of the strategy in `.comment`, and the section that a file may get for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.verifier.objects.read import read
from scpatch.verifier.proof import note, prove
from tests.tools import rewritten, section, sections

BODY = "FRAME f\nCALL __SCT__x\nLEAVE f\nFUNC __SCT__x\n blr\nEND __SCT__x\n"
IDENT = ' .ident "some compiler"\n'


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
    places = [*range(note.offset, note.offset + note.size), 60, 61]
    places += range(names.offset + section(before, ".shstrtab").size, names.offset + names.size)
    places += range(table + 64 * note.index, table + 64 * len(sections(after)))
    chosen = random.Random(2072)
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << chosen.randrange(8)
        assert errors(before, after, damaged), f"{place:#x}"


def test_another_strategy_was_noted(pair: tuple[Path, Path]) -> None:
    data = pair[1].read_bytes().replace(b"strategy callsite", b"strategy localent")
    assert errors(*pair, data) == (".comment: strategy localent was noted, callsite was applied.",)


def test_a_note_without_a_change(assemble: Callable[..., Path]) -> None:
    before = assemble(BODY)
    after = assemble(BODY + ' .ident "scpatch strategy callsite"\n', "y.o")
    noted = ".comment: strategy callsite was noted, none was applied."
    assert noted in note.check(read(before), read(after), frozenset())
