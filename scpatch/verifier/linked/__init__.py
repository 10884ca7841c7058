"""After the link: did every call of a trampoline get its save and its restore?

Linkers leave some calls alone without a message, so only the image tells. It need not have
relocations, so every branch that comes to a trampoline, directly or through stubs, is found in the
decoded code. Of two images, every changed word must have been a nop after such a call. No loaded
section may move. Of the others only `.comment` may grow, by the strategy's note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from scpatch.verifier.beside import beside
from scpatch.verifier.linked.image import Linked, find_trampolines, read_image
from scpatch.verifier.linked.judge import judge
from scpatch.verifier.objects import decoder, record
from scpatch.verifier.objects.calls import find_calls
from scpatch.verifier.objects.forms import read_object
from scpatch.verifier.objects.read import SHF_GROUP, STB_LOCAL, Image, Place, UnreadableError
from scpatch.verifier.objects.variant import NOPS
from scpatch.verifier.phases import enter
from scpatch.verifier.proof import headers, loads_of, look_again, one_offset, same, size_of
from scpatch.verifier.reasons import image_patches, not_in_images
from scpatch.verifier.types import Checkers, Common, Proof, Reason, SiteProof

__all__ = ["prove_images", "prove_link"]

_SEGMENT = "IIQQQQQQ"
"""The fields of an Elf64_Phdr."""


def prove_link(
    objects: Iterable[Path], image: Path, trampolines: Sequence[str], paca_toc: int | None = None
) -> Proof:
    """The proof for all call sites of an image; with the objects that it was linked from, also
    that it has as many calls as they. `paca_toc` is as for `prove`.

    A file that cannot be read is an error of the proof. Raises OSError for one that cannot be
    opened.
    """
    try:
        linked = find_trampolines(read_image(image), trampolines)
        if fault := not_in_images(record.strategies(linked.image)):
            return Proof((), (fault,))
        decoder.prepare(linked.image.words)
        sites = tuple(judge(linked))
        errors = [*_lost(_count(objects, trampolines), linked, sites)]
        errors += one_offset(loads_of(linked.image, sites), paca_toc)
        if not linked.entries:
            errors.append("no symbol names a trampoline's code: nothing can be said.")
        return Proof(sites, tuple(errors), checkers=Checkers(disassembler=decoder.name()))
    except UnreadableError as reason:
        return Proof((), (f"{reason}.",), unreadable=True)


def _count(objects: Iterable[Path], trampolines: Sequence[str]) -> Counter[tuple[str, str]]:
    """How many calls the objects have, by trampoline and function. Of a function that has copies
    in groups of sections (COMDAT) the link takes the first."""
    counts: Counter[tuple[str, str]] = Counter()
    known: set[str] = set()
    for path in objects:
        try:
            calls = find_calls(read_object(path), trampolines)
        except UnreadableError as reason:
            raise UnreadableError(f"{path.name}: {reason}") from None
        copied: set[str] = set()
        for place, site in calls.sites.items():
            function = calls.image.function_at(place)
            name = function.name if function else ""
            is_copied = calls.image.sections[place.section].flags & SHF_GROUP
            if is_copied and function is not None and function.binding != STB_LOCAL:
                if name in known:
                    continue
                copied.add(name)
            counts[site.trampoline.symbol.name, name] += 1
        known |= copied
    return counts


def _lost(
    wanted: Counter[tuple[str, str]], linked: Linked, sites: Sequence[SiteProof]
) -> Iterator[str]:
    """One sentence for each trampoline that has fewer calls in the image than in the objects.

    Counted by trampoline: a thunk makes its call from a function of its own.
    """
    before: Counter[str] = Counter()
    for (trampoline, _), number in wanted.items():
        before[trampoline] += number
    after = Counter(name for site in sites for name in linked.aliases(site.trampoline))
    missing = wanted - Counter((site.trampoline, site.function) for site in sites)
    for name, number in sorted(before.items()):
        if after[name] < number:
            functions = sorted({function for callee, function in missing if callee == name} - {""})
            where = f" (look at {', '.join(functions[:5])})" if functions else ""
            yield f"{name}: {number} calls in the objects, {after[name]} in the image{where}."


def prove_images(
    before: Path, after: Path, trampolines: Sequence[str], paca_toc: int | None = None
) -> Proof:
    """As `scpatch.verifier.proof.prove`, for two linked images. Raises OSError."""
    try:
        enter("reading the images")
        images = read_image(before), read_image(after)
        enter("disassembling")
        decoder.prepare(word for image in images for word in image.words)
        with beside(partial(look_again, *images), size_of(*images)) as second_look:
            enter("proving")
            faults = [*headers.check(*images), *_moved(*images)]
            proof = Proof((), ())
            if not faults:
                old, new = (find_trampolines(image, trampolines) for image in images)
                proof = _compare(old, new, paca_toc)
            checkers, errors = second_look()
        if errors := (*errors, *faults):
            return Proof((), errors, checkers=checkers)
        return replace(proof, checkers=checkers)
    except UnreadableError as reason:
        return Proof((), (f"{reason}.",), unreadable=True)


def _program_headers(image: Image) -> bytes:
    """Raises UnreadableError if the table is not whole."""
    (start,) = image.variant.struct("Q").unpack_from(image.data, 32)
    size, count = image.variant.struct("HH").unpack_from(image.data, 54)
    table = image.data[start : start + size * count]
    if len(table) != image.variant.struct(_SEGMENT).size * count:
        raise UnreadableError("the program header table is damaged")
    return table


def _moved(before: Image, after: Image) -> Iterator[str]:
    """One sentence for each section that has moved or grown and must not."""
    table = _program_headers(before)
    if table != _program_headers(after):
        yield "the program headers were changed."
    headers = before.variant.struct(_SEGMENT).iter_unpack(table)
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
    toc_loads = loads_of(after.image, sites)
    errors += one_offset(toc_loads, paca_toc)
    errors += same.sections(before.image, after.image, words)
    errors += same.appended_names(before.image, after.image)
    errors += same.gaps(before.image, after.image)
    patches = image_patches()
    applied = frozenset(patches[site.state] for site in sites if site.state in patches)
    errors += record.faults(before.image, after.image, applied)
    return Proof(tuple(sites), tuple(errors), toc_loads[0].offset if toc_loads else None)


def _state(now: SiteProof, *, changed: bool) -> Reason:
    """What became of a call in the second image."""
    if changed:
        return now.state if now.state in image_patches() else Common.WRONG
    if now.state is Common.WRONG:
        return Common.LEFT
    return Common.DONE if now.state.by_change else now.state


def _change_errors(before: Linked, after: Linked, was: SiteProof, now: SiteProof) -> Iterator[str]:
    """What is wrong with the changed word after a call."""
    place = Place(now.section, now.offset)
    where = after.image.where(place)
    if now.state not in image_patches():
        yield f"{where}: the word after the call must not become this: {now.why}."
    if before.word(place.after(4)) not in NOPS:
        yield f"{where}: the restore overwrote an instruction that is not a nop."
    if was.right and was.state is not Common.NOTOC:  # There a load of r2 does nothing.
        yield f"{where}: the call was changed although r2 was right after it."
    if not decoder.decode(after.word(place)).startswith("bl "):
        yield f"{where}: the disassembler does not decode this as a call."
