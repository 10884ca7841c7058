"""The note that a rewrite adds to `.comment`: the strategy that it applied, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from scpatch.verifier.objects import record
from scpatch.verifier.objects.read import SHT_PROGBITS, Image

_FLAGS = 0x30  # SHF_MERGE | SHF_STRINGS


def check(before: Image, after: Image, applied: frozenset[str]) -> Iterator[str]:
    """One sentence for each byte in `.comment` that is new and no note of a strategy.

    `applied` are the strategies whose changes were found. A note may be missing, since a file may
    have been changed by something else, but not be of another strategy.
    """
    noted = record.strategies(after) - record.strategies(before)
    if noted and noted != applied:
        what = " and ".join(sorted(applied)) or "none"
        names = " and ".join(sorted(noted))
        yield f"{record.NAME}: strategy {names} was noted, {what} was applied."
    for number in record.sections(before):
        old, new = before.content(number), after.content(number)
        added = new[len(old) :]
        if old and not old.endswith(b"\0") and added.startswith(b"\0"):
            added = added[1:]
        if added and added not in _notes(noted):
            yield f"{record.NAME}: bytes were appended that are not the note of a strategy."
    for section in after.sections[len(before.sections) :]:
        if section.name == record.NAME and after.content(section.number) not in _notes(noted):
            yield f"{record.NAME}: the new section is not the note of a strategy."


def _notes(noted: frozenset[str]) -> list[bytes]:
    return [record.text(name) for name in noted]


def is_new(before: Image, after: Image, number: int) -> bool:
    """Whether an added section is the one for the note, of an object that had none."""
    section = after.sections[number]
    shape = section.type, section.flags, after.address(number), *section[6:]
    wanted = SHT_PROGBITS, _FLAGS, 0, 0, 0, 1, 1
    return section.name == record.NAME and not record.sections(before) and shape == wanted
