"""The proof on two linked images: every changed word was a nop after a call of a trampoline.

No loaded section may move. Of the others only `.comment` may grow, by the strategy's note.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scpatch.verifier.linked.image import Linked, find_trampolines, read_image
from scpatch.verifier.linked.judge import judge
from scpatch.verifier.objects import record
from scpatch.verifier.objects.insn import decode
from scpatch.verifier.objects.read import Image, Place, UnreadableError
from scpatch.verifier.objects.second_opinion import disagreements
from scpatch.verifier.objects.variant import NOPS, STRUCT
from scpatch.verifier.proof import headers, loads, note, same
from scpatch.verifier.reasons import image_patches
from scpatch.verifier.types import Common, Proof, Reason, SiteProof


def prove_images(
    before: Path, after: Path, trampolines: Sequence[str], paca_toc: int | None = None
) -> Proof:
    """As `scpatch.verifier.proof.prove`, for two linked images. Raises OSError."""
    try:
        images = read_image(before), read_image(after)
        errors = [text for image in images for text in disagreements(image)]
        errors += headers.check(*images)
        errors += _moved(*images)
        if errors:
            return Proof((), tuple(errors))
        old, new = (find_trampolines(image, trampolines) for image in images)
        return _compare(old, new, paca_toc)
    except UnreadableError as reason:
        return Proof((), (f"{reason}.",))


def _program_headers(image: Image) -> bytes:
    (start,) = struct.unpack_from(f"{STRUCT}Q", image.data, 32)
    size, count = struct.unpack_from(f"{STRUCT}HH", image.data, 54)
    return image.data[start : start + size * count]


def _moved(before: Image, after: Image) -> Iterator[str]:
    """One sentence for each section that has moved or grown and must not."""
    if _program_headers(before) != _program_headers(after):
        yield "the program headers were changed."
    headers = struct.iter_unpack(f"{STRUCT}IIQQQQQQ", _program_headers(before))
    end = max((offset + size for _, _, offset, _, _, size, _, _ in headers), default=0)
    for old, new in zip(before.sections, after.sections, strict=False):
        names = old.number == before.shstrndx and len(after.sections) > len(before.sections)
        if old.size != new.size and old.name != record.NAME and not names and old.number:
            yield f"section {old.number} ({old.name}) has another size."
        if old.offset != new.offset and old.offset < end:
            yield f"section {old.number} ({old.name}) is loaded, and is elsewhere in the file."


def _compare(before: Linked, after: Linked, paca_toc: int | None) -> Proof:
    errors: list[str] = []
    sites: list[SiteProof] = []
    words: list[Place] = []
    old, new = (
        {Place(site.section, site.offset): site for site in judge(linked)}
        for linked in (before, after)
    )
    for place in sorted(old.keys() | new.keys()):
        was, now, following = old.get(place), new.get(place), place.after(4)
        if was is None or now is None or was.trampoline != now.trampoline:
            errors.append(f"{after.image.where(place)}: another call than before.")
            continue
        changed = before.word(following) != after.word(following)
        sites.append(replace(now, state=_state(now, changed=changed), was_right=was.right))
        if changed:
            words.append(following)
            errors += _change_errors(before, after, was, sites[-1])
    toc_loads = loads.loads_of(after.image, sites)
    errors += loads.one_offset(toc_loads, paca_toc)
    errors += same.sections(before.image, after.image, words)
    errors += same.appended_names(before.image, after.image)
    errors += same.gaps(before.image, after.image)
    patches = image_patches()
    applied = frozenset(patches[site.state] for site in sites if site.state in patches)
    errors += note.check(before.image, after.image, applied)
    return Proof(tuple(sites), tuple(errors), toc_loads[0].offset if toc_loads else None)


def _state(now: SiteProof, *, changed: bool) -> Reason:
    """What became of a call in the second image."""
    if changed:
        return now.state if now.state in image_patches() else Common.WRONG
    if now.state is Common.WRONG:
        return Common.LEFT
    return Common.DONE if now.state.by_change else now.state


def _change_errors(before: Linked, after: Linked, was: SiteProof, now: SiteProof) -> Iterator[str]:
    """What a changed word after a call must not be, and what it must have been."""
    place = Place(now.section, now.offset)
    where = after.image.where(place)
    if now.state not in image_patches():
        yield f"{where}: the word after the call must not become this: {now.why}."
    if before.word(place.after(4)) not in NOPS:
        yield f"{where}: an instruction that is no nop was overwritten by the restore."
    if was.right and was.state is not Common.NOTOC:  # There a load of r2 does nothing.
        yield f"{where}: the call was changed although r2 was right after it."
    if not decode(after.word(place), after.address(place)).startswith("bl "):
        yield f"{where}: capstone does not decode this as a call."
