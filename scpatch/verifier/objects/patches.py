"""Which instructions the Linux kernel may replace when it starts or loads a module.

Its tables hold distances that count from the start of the entry (FTR_ENTRY_OFFSET in
arch/powerpc/include/asm/feature-fixups.h); what is written where is in
arch/powerpc/lib/feature-fixups.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from scpatch.verifier.objects.insn import Effect, Flow, base_is_r1, effect, flow
from scpatch.verifier.objects.instructions import Instructions
from scpatch.verifier.objects.read import Place
from scpatch.verifier.objects.relocations import REL64

SECTIONS = ("__ftr_fixup", "__mmu_ftr_fixup", "__fw_ftr_fixup")
"""Their entries: two words, and the start and end of the code and of its alternative."""
NOPS = ("__btb_flush_fixup",)
"""Their entries: the start and end of code that may become nops."""
BARRIERS = {
    "__barrier_nospec_fixup": 8,
    "__entry_flush_fixup": 12,
    "__lwsync_fixup": 4,
    "__rfi_flush_fixup": 12,
    "__scv_entry_flush_fixup": 12,
    "__stf_entry_barrier_fixup": 12,
    "__stf_exit_barrier_fixup": 24,
    "__uaccess_flush_fixup": 16,
}
"""Their entries: the start of so many bytes of nops and barriers."""
TABLES = (*SECTIONS, *NOPS, *BARRIERS)


class Patch(IntEnum):
    """What may become of an instruction."""

    NONE = 0
    QUIET = 1
    """A nop, or what touches neither r1, r2 nor 24(r1), nor leaves."""
    LOUD = 2
    """Anything."""


_PATCHES = tuple(Patch)


@dataclass(frozen=True)
class Patches:
    """By code section. `unread` names a table that could not be read."""

    words: dict[int, bytes] = field(default_factory=dict)
    """A Patch for each instruction."""
    edges: frozenset[Place] = frozenset()
    """The first instruction of what is patched as a whole, and the one after it."""
    unread: str = ""

    def at(self, place: Place) -> Patch:
        words = self.words.get(place.section, b"")
        index = place.offset // 4
        return _PATCHES[words[index]] if 0 <= index < len(words) else Patch.NONE


Entry = tuple[str, Sequence[Place | None]]
"""The name of a table, and the places that one entry of it names."""


def read_patches(code: Instructions) -> Patches:
    """The patches of an object."""
    image, entries = code.image, []
    for section in image.sections:
        if not section.name.endswith("_fixup") or section.number not in image.rela_sections:
            continue
        if section.name not in TABLES:
            return Patches(unread=section.name)
        size, first = form(section.name)
        here: dict[int, Place | None] = {}
        for rela in image.relocations(section.number):
            if rela.type != REL64 or rela.offset % 8 or rela.offset % size < first:
                return Patches(unread=section.name)
            place = image.target(rela)
            # The relocation counts from its own field.
            shift = rela.offset % size
            here[rela.offset] = place and Place(place.section, place.offset - shift)
        for start in range(0, section.size, size):
            fields = [here.get(at) for at in range(start + first, start + size, 8)]
            entries.append((section.name, fields))
    return make(code, entries)


def form(name: str) -> tuple[int, int]:
    """The size of an entry in bytes, and where the places in it begin."""
    return (48, 16) if name in SECTIONS else (16, 0) if name in NOPS else (8, 0)


def make(code: Instructions, entries: Sequence[Entry]) -> Patches:
    """The patches that `entries` describe; none at all if one of them is not understood."""
    steps: dict[int, dict[int, list[int]]] = {}
    edges: set[Place] = set()
    for name, places in entries:
        patch = _read_entry(code, name, places)
        if patch is None:
            return Patches(unread=name)
        start, end, kind = patch
        edges |= {start, end}
        last = code.image.sections[start.section].size // 4
        here = steps.setdefault(start.section, {last: [0, 0]})
        for place, by in (start, 1), (end, -1):
            here.setdefault(min(place.offset // 4, last), [0, 0])[kind is Patch.LOUD] += by
    words = {section: b"".join(_runs(here)) for section, here in steps.items()}
    return Patches(words, frozenset(edges))


def _runs(steps: Mapping[int, Sequence[int]]) -> Iterator[bytes]:
    """The words of a section in runs with the same Patch, given by how many more quiet and loud
    entries are at a word than at the word before it."""
    at = quiet = loud = 0
    for word, (more_quiet, more_loud) in sorted(steps.items()):
        kind = Patch.LOUD if loud else Patch.QUIET if quiet else Patch.NONE
        yield bytes([kind]) * (word - at)
        at, quiet, loud = word, quiet + more_quiet, loud + more_loud
    yield bytes([Patch.LOUD if loud else Patch.QUIET if quiet else Patch.NONE])


def _read_entry(
    code: Instructions, name: str, places: Sequence[Place | None]
) -> tuple[Place, Place, Patch] | None:
    """Start, end and kind of one entry's patch."""
    known = [place for place in places if place is not None]
    if len(known) < len(places) or any(place.offset % 4 for place in known):
        return None
    if name in BARRIERS:
        known.append(Place(known[0].section, known[0].offset + BARRIERS[name]))
    start, end, *other = known
    has_code = code.image.sections[start.section].has_bytes
    if start.section != end.section or not has_code or not 0 <= start.offset <= end.offset:
        return None
    if not other:
        return start, end, Patch.QUIET
    if other[0].section != other[1].section or not 0 <= other[0].offset <= other[1].offset:
        return None
    first, last = other[0], other[1].offset
    relas = code.image.relocations(first.section)
    is_loud = (
        last > code.image.sections[first.section].size
        or any(_is_loud(code, Place(first.section, at)) for at in range(first.offset, last, 4))
        or any(first.offset <= rela.offset < last for rela in relas)
    )
    return start, end, Patch.LOUD if is_loud else Patch.QUIET


def _is_loud(code: Instructions, place: Place) -> bool:
    """Whether an instruction of an alternative does more than a nop does to r1, r2 or 24(r1)."""
    word = code.word(place)
    return flow(word) is not Flow.NEXT or effect(word) is not Effect.NONE or base_is_r1(word)
