"""The proof on two linked images: every word that changed was a nop behind a call of a trampoline.

Nothing that is loaded may move, and of the rest `.comment` alone may grow, by the strategy's note.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scpatch.verifier.linked.image import Linked, read_image
from scpatch.verifier.linked.judge import judge
from scpatch.verifier.objects import record
from scpatch.verifier.objects.insn import decode
from scpatch.verifier.objects.read import ET_DYN, ET_EXEC, Image, Place, UnreadableError, read
from scpatch.verifier.objects.second_opinion import disagreements
from scpatch.verifier.objects.variant import NOPS
from scpatch.verifier.proof import loads, note, same
from scpatch.verifier.reasons import image_patches
from scpatch.verifier.types import Common, Proof, SiteProof


def prove_images(
    before: Path, after: Path, trampolines: Sequence[str], paca_toc: int | None = None
) -> Proof:
    """As `scpatch.verifier.proof.prove`, for two linked images. Raises OSError."""
    try:
        images = read(before, (ET_EXEC, ET_DYN)), read(after, (ET_EXEC, ET_DYN))
        errors = [text for image in images for text in disagreements(image)]
        errors += same.structure(*images)
        errors += _in_place(*images)
        if errors:
            return Proof((), tuple(errors))
        old, new = read_image(before, trampolines), read_image(after, trampolines)
        return _compare(old, new, paca_toc)
    except UnreadableError as reason:
        return Proof((), (f"{reason}.",))


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


def _compare(before: Linked, after: Linked, paca_toc: int | None) -> Proof:
    errors: list[str] = []
    sites: list[SiteProof] = []
    words: list[Place] = []
    old, new = ({_place(one): one for one in judge(linked)} for linked in (before, after))
    for place in sorted(old.keys() | new.keys()):
        was, now = old.get(place), new.get(place)
        if was is None or now is None or was.trampoline != now.trampoline:
            errors.append(f"{after.image.where(place)}: another call than before.")
            continue
        changed = before.calls.word(_next(place)) != after.calls.word(_next(place))
        sites.append(_site(after, was, now, changed=changed))
        if changed:
            words.append(_next(place))
            errors += _change_errors(before, after, was, sites[-1])
    of_r2 = loads.loads_of(after.image, sites)
    errors += loads.one_offset(of_r2, paca_toc)
    errors += same.sections(before.image, after.image, words)
    errors += same.appended_names(before.image, after.image)
    errors += same.gaps(before.image, after.image)
    patched = (site.state for site in sites if site.state in image_patches())
    applied = frozenset(image_patches()[state] for state in patched)
    errors += note.check(before.image, after.image, applied)
    return Proof(tuple(sites), tuple(errors), of_r2[0].offset if of_r2 else None)


def _place(site: SiteProof) -> Place:
    return Place(site.section, site.offset)


def _next(place: Place) -> Place:
    return Place(place.section, place.offset + 4)


def _site(after: Linked, was: SiteProof, now: SiteProof, *, changed: bool) -> SiteProof:
    """A call in the second image, with what became of it for its state."""
    if changed:
        state = now.state if now.state in image_patches() else Common.WRONG
    elif now.state is Common.WRONG:
        state = Common.LEFT
    else:
        state = Common.DONE if now.state.by_change else now.state
    return replace(now, state=state, was_right=was.right)


def _change_errors(
    before: Linked, after: Linked, was: SiteProof, proof: SiteProof
) -> Iterator[str]:
    """What a changed word behind a call may not be, and what it must have been."""
    place = _place(proof)
    where = after.image.where(place)
    if proof.state not in image_patches():
        yield f"{where}: the word behind the call was changed to none that may be: {proof.why}."
    if before.calls.word(_next(place)) not in NOPS:
        yield f"{where}: an instruction that is no nop was overwritten by the restore."
    if was.right and was.state is not Common.NOTOC:  # There a load of r2 does nothing.
        yield f"{where}: a call after which r2 was right already was changed."
    if not decode(after.calls.word(place), after.address(place)).startswith("bl "):
        yield f"{where}: capstone does not take this for a call."
