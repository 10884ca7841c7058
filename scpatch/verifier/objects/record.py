"""What a rewrite notes in `.comment`: the strategy that it applied, once, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from scpatch.verifier.objects.read import SHDR_SIZE, SHF_ALLOC, SHF_EXECINSTR, SHT_PROGBITS, Image

NAME = ".comment"
_MARK = b"scpatch strategy "
_FLAGS = 0x30  # SHF_MERGE | SHF_STRINGS
_SHF_COMPRESSED = 0x800
_NO_TEXT = SHF_ALLOC | SHF_EXECINSTR | _SHF_COMPRESSED


def strategies(image: Image) -> frozenset[str]:
    """The strategies that an object says it was rewritten with."""
    strings = [text for one in sections(image) for text in image.content(one).split(b"\0")]
    return frozenset(
        text[len(_MARK) :].decode("ascii", "replace") for text in strings if text.startswith(_MARK)
    )


def sections(image: Image) -> list[int]:
    """The sections that may hold a note."""
    return [
        section.number
        for section in image.sections
        if section.name == NAME and section.type == SHT_PROGBITS and not section.flags & _NO_TEXT
    ]


def noted(image: Image, strategy: str) -> Iterator[tuple[int, range]]:
    """Where notes of a strategy stand: the section, and the section offsets of its bytes."""
    wanted = _MARK + strategy.encode() + b"\0"
    for number in sections(image):
        content = b"\0" + image.content(number)
        start = content.find(b"\0" + wanted)
        while start >= 0:
            yield number, range(start, start + len(wanted))
            start = content.find(b"\0" + wanted, start + 1)


def check(before: Image, after: Image, applied: frozenset[str]) -> Iterator[str]:
    """One sentence for each byte in `.comment` that is new and no note of a strategy.

    `applied` are the strategies whose changes were found. A note may be missing, since a file may
    have been changed by something else, but not be of another strategy.
    """
    noted = strategies(after) - strategies(before)
    if noted and noted != applied:
        what = " and ".join(sorted(applied)) or "none"
        yield f"{NAME}: strategy {' and '.join(sorted(noted))} was noted, {what} was applied."
    for number in sections(before):
        old, new = before.content(number), after.content(number)
        added = new[len(old) :]
        if old and not old.endswith(b"\0") and added.startswith(b"\0"):
            added = added[1:]
        if added and added not in _notes(noted):
            yield f"{NAME}: bytes were appended that are no note of a strategy."
    for section in after.sections[len(before.sections) :]:
        if section.name == NAME and after.content(section.number) not in _notes(noted):
            yield f"{NAME}: the new section is no note of a strategy."


def _notes(noted: frozenset[str]) -> list[bytes]:
    return [_MARK + name.encode() + b"\0" for name in noted]


def is_new(before: Image, after: Image, number: int) -> bool:
    """Whether an added section is the one for the note, of an object that had none."""
    section = after.sections[number]
    start = after.shoff + number * SHDR_SIZE
    address = int.from_bytes(after.data[start + 16 : start + 24], "little")
    shape = section.type, section.flags, address, *section[6:]
    wanted = SHT_PROGBITS, _FLAGS, 0, 0, 0, 1, 1
    return section.name == NAME and not sections(before) and shape == wanted
