"""Where the stubs of a linker lead to, in a linked image.

Such a stub has no symbol as a rule (GNU ld gives it one with --emit-stub-syms only). It branches,
or loads an address from memory that r2 points into and goes by way of ctr, and may store r2
first. Decoded by capstone.
"""

from __future__ import annotations

import re
import struct
from functools import cache
from typing import NamedTuple

from scpatch.verify.proof.calls import STUB_NAME, Calls
from scpatch.verify.proof.insn import decode
from scpatch.verify.proof.read import SHF_ALLOC, Image, Place

_SAVE = "std r2, 0x18(r1)"
_BRANCH = re.compile(r"b (0x[0-9a-f]+)")
_HIGH = re.compile(r"addis r12, r2, (-?(?:0x)?[0-9a-f]+)")
_LOW = re.compile(r"ld r12, (-?(?:0x)?[0-9a-f]+)\((r12|r2)\)")
_GO = ("mtctr r12", "bctr")
_RELATIVE = 22  # R_PPC64_RELATIVE
_LONGEST = 6


class End(NamedTuple):
    """Where a stub leads to. `saves`: it stores r2 in 24(r1) first."""

    address: int
    saves: bool


def end_of_stub(calls: Calls, address: int) -> End | None:
    """Where the stub at an address leads to; None where there is none: a function, or data."""
    place = _place(calls.image, address)
    if place is None:
        return None
    function = calls.image.function_at(place)
    if function is not None and not STUB_NAME.fullmatch(function.name):
        return None
    text = [
        decode(calls.word(Place(place.section, place.offset + at)), address + at)
        for at in range(0, 4 * _LONGEST, 4)
    ]
    saves = text[0] == _SAVE
    text = text[saves:]
    if match := _BRANCH.fullmatch(text[0]):
        return End(int(match[1], 0), saves)
    to = _through_ctr(calls.image, text)
    return End(to, saves) if to is not None else None


def _through_ctr(image: Image, text: list[str]) -> int | None:
    """The address that `addis; ld; mtctr; bctr` goes to."""
    toc, high = _toc(image), _HIGH.fullmatch(text[0])
    low = _LOW.fullmatch(text[1 if high else 0])
    rest = tuple(text[2:4] if high else text[1:3])
    if toc is None or low is None or rest != _GO or low[2] != ("r12" if high else "r2"):
        return None
    slot = toc + int(low[1], 0)
    if high:
        distance = int(high[1], 0) & 0xFFFF
        slot += ((distance ^ 0x8000) - 0x8000) << 16
    return _pointers(image).get(slot, _doubleword(image, slot))


def _place(image: Image, address: int) -> Place | None:
    for section in image.code:
        offset = address - image.address(section.number)
        if 0 <= offset < section.size:
            return Place(section.number, offset)
    return None


@cache
def _toc(image: Image) -> int | None:
    """The TOC pointer: .TOC., which lies 0x8000 behind the start of .got (psABI 3.3)."""
    for symbol in image.symbols:
        if symbol.name == ".TOC." and symbol.section > 0:
            return image.address(symbol.section) + symbol.value
    return next(
        (image.address(one.number) + 0x8000 for one in image.sections if one.name == ".got"), None
    )


@cache
def _pointers(image: Image) -> dict[int, int]:
    """What is put at addresses when a PIE is started where it was linked to."""
    found = {}
    for section in image.sections:
        if section.name == ".rela.dyn":
            for offset, info, addend in struct.iter_unpack("<QQQ", image.content(section.number)):
                if info & 0xFFFFFFFF == _RELATIVE:
                    found[offset] = addend
    return found


def _doubleword(image: Image, address: int) -> int | None:
    for section in image.sections:
        at = address - image.address(section.number)
        if section.flags & SHF_ALLOC and section.has_bytes and 0 <= at <= section.size - 8:
            return int.from_bytes(image.content(section.number)[at : at + 8], "little")
    return None
