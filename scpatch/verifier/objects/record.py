"""The note of a rewrite in `.comment`: the strategy that it applied."""

from __future__ import annotations

from collections.abc import Iterator

from scpatch.verifier.objects.read import SHF_ALLOC, SHF_EXECINSTR, SHT_PROGBITS, Image

NAME = ".comment"
_MARK = b"scpatch strategy "
_SHF_COMPRESSED = 0x800
_NO_TEXT = SHF_ALLOC | SHF_EXECINSTR | _SHF_COMPRESSED


def strategies(image: Image) -> frozenset[str]:
    """The strategies that an object says it was rewritten with."""
    strings = (
        string for number in sections(image) for string in image.content(number).split(b"\0")
    )
    return frozenset(
        string[len(_MARK) :].decode("ascii", "replace")
        for string in strings
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
