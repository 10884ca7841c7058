"""The proof on a linked image: every word that changed was a nop behind a call of a trampoline.

Calls are found by decoding the image's branches, since a linked image need not have relocations;
what looks like a call of a trampoline is decoded by capstone as well. Nothing that is loaded may
move, and of the rest `.comment` alone may grow, by the strategy's note.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from scpatch.verify.proof import paca, record, same
from scpatch.verify.proof.calls import LD_R2, NOPS, Calls, Trampoline, find_calls
from scpatch.verify.proof.insn import Flow, decode, flow, target
from scpatch.verify.proof.linker import end_of_stub
from scpatch.verify.proof.read import Image, Place, UnreadableError, read
from scpatch.verify.proof.second_opinion import disagreements
from scpatch.verify.proof.types import Proof, SiteProof

ET_EXEC, ET_DYN = 2, 3
_LOCAL_ENTRY = (0, 0, 4, 8, 16, 32, 64)
"""Bytes from the global to the local entry, by st_other bits 5-7 (psABI 3.4.1); 7 is reserved."""


@dataclass(frozen=True, slots=True)
class Call:
    """A branch to a trampoline, perhaps by way of a stub. `place` is a section offset."""

    place: Place
    trampoline: Trampoline
    saved: bool
    """A stub on the way stores r2 in 24(r1)."""


def is_linked(path: Path) -> bool:
    """Whether a file is a linked image. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(18)
    return head[:4] == b"\x7fELF" and int.from_bytes(head[16:18], "little") in (ET_EXEC, ET_DYN)


def prove_images(
    before: Path, after: Path, trampolines: Sequence[str], paca_toc: int | None = None
) -> Proof:
    """As `prove`, for two linked images. Raises OSError."""
    try:
        images = read(before, (ET_EXEC, ET_DYN)), read(after, (ET_EXEC, ET_DYN))
        errors = [text for image in images for text in disagreements(image)]
        errors += same.structure(*images)
        errors += _in_place(*images)
        if errors:
            return Proof((), tuple(errors))
        old, new = (Linked(find_calls(_in_sections(image), trampolines)) for image in images)
        return _compare(old, new, paca_toc)
    except UnreadableError as reason:
        return Proof((), (f"{reason}.",))


def _in_sections(image: Image) -> Image:
    """The image with section offsets for the addresses of symbols."""
    starts = {one.number: image.address(one.number) for one in image.sections}
    symbols = (one._replace(value=one.value - starts.get(one.section, 0)) for one in image.symbols)
    return replace(image, symbols=tuple(symbols))


def _program_headers(image: Image) -> bytes:
    (start,) = struct.unpack_from("<Q", image.data, 32)
    size, count = struct.unpack_from("<HH", image.data, 54)
    return image.data[start : start + size * count]


def _in_place(before: Image, after: Image) -> Iterator[str]:
    """What has moved or grown that may not."""
    if _program_headers(before) != _program_headers(after):
        yield "the program headers were changed."
    headers = struct.iter_unpack("<IIQQQQQQ", _program_headers(before))
    end = max((one[2] + one[5] for one in headers), default=0)
    for old, new in zip(before.sections, after.sections, strict=False):
        names = old.number == before.shstrndx and len(after.sections) > len(before.sections)
        if old.size != new.size and old.name != record.NAME and not names and old.number:
            yield f"section {old.number} ({old.name}) has another size."
        if old.offset != new.offset and old.offset < end:
            yield f"section {old.number} ({old.name}) is loaded, and lies elsewhere in the file."


class Linked:
    """The calls of trampolines in one image. `calls` gives its words and trampolines."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.image = calls.image

    @cached_property
    def _entries(self) -> dict[int, Trampoline]:
        """The entry points of the trampolines by address."""
        found = {}
        for place, (trampoline, *_) in self.calls.trampolines.items():
            kind = trampoline.symbol.other >> 5
            if place.section in self._code and kind < len(_LOCAL_ENTRY):
                start = self.image.address(place.section) + place.offset
                found[start] = found[start + _LOCAL_ENTRY[kind]] = trampoline
        return found

    @cached_property
    def _code(self) -> frozenset[int]:
        return frozenset(section.number for section in self.image.code)

    @cached_property
    def sites(self) -> dict[Place, Call]:
        """The calls by place, in order."""
        found = {}
        for section in self.image.code:
            base = self.image.address(section.number)
            for offset, to in _branches(self.calls.words(section.number), base):
                place = Place(section.number, offset)
                reached = self._reached(to)
                if reached is not None and not self._is_between(place):
                    found[place] = Call(place, *reached)
        return found

    def _reached(self, address: int) -> tuple[Trampoline, bool] | None:
        """The trampoline that an address leads to, and whether a stub on the way saves r2."""
        if address in self._entries:
            return self._entries[address], False
        if address not in self._stubs:
            end = end_of_stub(self.calls, address)
            reached = self._entries.get(end.address) if end is not None else None
            saves = end is not None and end.saves
            self._stubs[address] = (reached, saves) if reached is not None else None
        return self._stubs[address]

    @cached_property
    def _stubs(self) -> dict[int, tuple[Trampoline, bool] | None]:
        return {}

    def _is_between(self, place: Place) -> bool:
        """Whether a branch is a stub's or a trampoline's own."""
        if flow(self.calls.word(place)) is not Flow.JUMP:
            return False
        function = self.image.function_at(place)
        if function is None or function.name.startswith(("r2save.", "r2thunk.")):
            return True
        return Place(place.section, function.value) in self.calls.trampolines


def _branches(words: array[int], base: int) -> Iterator[tuple[int, int]]:
    """(section offset, address of the target) of every `b` and `bl`."""
    for number, word in enumerate(words):
        if word >> 26 == 18:
            to = target(word, base + 4 * number)
            if to is not None:
                yield 4 * number, to


def _compare(before: Linked, after: Linked, paca_toc: int | None) -> Proof:
    errors: list[str] = []
    sites: list[SiteProof] = []
    words: list[Place] = []
    for place in sorted(before.sites.keys() | after.sites.keys()):
        was, now = before.sites.get(place), after.sites.get(place)
        if was is None or now is None or was.trampoline.symbol != now.trampoline.symbol:
            errors.append(f"{after.image.where(place)}: another call than before.")
            continue
        proof = _site(before, after, was, now)
        sites.append(proof)
        if proof.state in ("paca", "wrong"):
            words.append(_next(place))
            errors += _change_errors(before, after, proof, place)
    restores = [
        paca.Restore(after.image.where(Place(one.section, one.offset)), one.paca_toc)
        for one in sites
        if one.paca_toc is not None
    ]
    errors += paca.one_offset(restores, paca_toc)
    errors += same.sections(before.image, after.image, words, ())
    errors += same.appended_names(before.image, after.image)
    errors += same.gaps(before.image, after.image)
    applied = frozenset("paca" for one in sites if one.state == "paca")
    errors += record.check(before.image, after.image, applied)
    return Proof(tuple(sites), tuple(errors), restores[0].offset if restores else None)


def _next(place: Place) -> Place:
    return Place(place.section, place.offset + 4)


def _change_errors(before: Linked, after: Linked, proof: SiteProof, place: Place) -> Iterator[str]:
    """What a changed word behind a call may not be, and what it must have been."""
    where = after.image.where(place)
    if not proof.right:
        yield f"{where}: the word behind the call was changed, and r2 is wrong: {proof.why}."
    if before.calls.word(_next(place)) not in NOPS:
        yield f"{where}: an instruction that is no nop was overwritten by the restore."
    if proof.was_right:
        yield f"{where}: a call after which r2 was right already was changed."
    address = after.image.address(place.section) + place.offset
    if not decode(after.calls.word(place), address).startswith("bl 0x"):
        yield f"{where}: capstone does not take this for a call."


def _site(before: Linked, after: Linked, was: Call, now: Call) -> SiteProof:
    image, place = after.image, now.place
    then, _ = _judge(before, was)
    how, why = _judge(after, now)
    changed = before.calls.word(_next(place)) != after.calls.word(_next(place))
    if changed:
        state = "paca" if how == "paca" else "wrong"
    else:
        state = {"paca": "done", "wrong": "left"}.get(how, how)
    function = image.function_at(place)
    trampoline = now.trampoline
    return SiteProof(
        section=place.section,
        section_name=image.sections[place.section].name,
        offset=place.offset,
        function=function.name if function is not None else "",
        function_offset=place.offset - function.value if function is not None else 0,
        trampoline=trampoline.symbol.name,
        trampoline_section=trampoline.place.section,
        trampoline_offset=trampoline.place.offset,
        trampoline_other=trampoline.symbol.other,
        state=state,
        right=how in ("paca", "done"),
        was_right=then in ("paca", "done"),
        why=why,
        resume=place.offset + 8,
        saved_before=False,
        loader=False,
        paca_toc=paca.offset(after.calls.word(_next(place))),
    )


def _judge(linked: Linked, call: Call) -> tuple[str, str]:
    """`paca`, `done`, `restored` or `wrong`, and why."""
    if flow(linked.calls.word(call.place)) is not Flow.CALL:
        return "wrong", "a sibling call: nothing can restore r2 after it"
    after = linked.calls.word(_next(call.place))
    if (offset := paca.offset(after)) is not None:
        return "paca", f"r2 is loaded from the PACA, {offset}(r13)"
    if after == LD_R2 and call.saved:
        return "done", "saved by a stub, restored by ld r2,24(r1)"
    if after == LD_R2:
        return "restored", "restored by ld r2,24(r1), its save not shown"
    what = "a nop" if after in NOPS else "no nop"
    return "wrong", f"{what} follows: r2 stays what the target made it"
