"""The note of a rewrite in `.comment`: the strategy that it applied, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from scpatch.verifier.objects.read import SHF_ALLOC, SHF_EXECINSTR, SHT_PROGBITS, Image

NAME = ".comment"
_MARK = b"scpatch strategy "
_FLAGS = 0x30  # SHF_MERGE | SHF_STRINGS
_SHF_COMPRESSED = 0x800
_NO_TEXT = SHF_ALLOC | SHF_EXECINSTR | _SHF_COMPRESSED


def strategies(image: Image) -> frozenset[str]:
    """The strategies that an object says it was rewritten with."""
    return frozenset(
        string.removeprefix(_MARK).decode("ascii", "replace")
        for number in sections(image)
        for string in image.content(number).split(b"\0")
        if string.startswith(_MARK)
    )


def text(strategy: str) -> bytes:
    """The note of a strategy."""
    return _MARK + strategy.encode() + b"\0"


def sections(image: Image) -> list[int]:
    """The sections that may hold a note."""
    return [
        section.number
        for section in image.sections
        if section.name == NAME and section.type == SHT_PROGBITS and not section.flags & _NO_TEXT
    ]


def noted(image: Image, strategy: str) -> Iterator[tuple[int, range]]:
    """Where notes of a strategy stand: the section, and the section offsets of its bytes."""
    wanted = text(strategy)
    for number in sections(image):
        content = b"\0" + image.content(number)
        start = content.find(b"\0" + wanted)
        while start >= 0:
            yield number, range(start, start + len(wanted))
            start = content.find(b"\0" + wanted, start + 1)


def faults(before: Image, after: Image, applied: frozenset[str]) -> Iterator[str]:
    """One sentence for each byte in `.comment` that is new and no note of a strategy.

    `applied` are the strategies whose changes were found. A note may be missing, since a file may
    have been changed by something else, but not be of another strategy.
    """
    noted = strategies(after) - strategies(before)
    notes = [text(name) for name in noted]
    if noted and noted != applied:
        what = " and ".join(sorted(applied)) or "none"
        names = " and ".join(sorted(noted))
        yield f"{NAME}: strategy {names} was noted, {what} was applied."
    for number in sections(before):
        old, new = before.content(number), after.content(number)
        added = new[len(old) :]
        if old and not old.endswith(b"\0") and added.startswith(b"\0"):
            added = added[1:]
        if added and added not in notes:
            yield f"{NAME}: bytes were appended that are not the note of a strategy."
    for section in after.sections[len(before.sections) :]:
        if section.name == NAME and after.content(section.number) not in notes:
            yield f"{NAME}: the new section is not the note of a strategy."


def is_new(before: Image, after: Image, number: int) -> bool:
    """Whether an added section is the one for the note, of an object that had none."""
    section = after.sections[number]
    shape = section.type, section.flags, section.address, *section[7:]
    wanted = SHT_PROGBITS, _FLAGS, 0, 0, 0, 1, 1
    return section.name == NAME and not sections(before) and shape == wanted
