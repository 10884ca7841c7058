"""The table of call sites, `.static_call_sites`: is each entry right, and is none missing?

What an entry is was read in include/linux/static_call_types.h and kernel/static_call_inline.c: two
words, each the distance from itself; the `bl` and the static call's key, whose two low bits are
flags. STATIC_CALL_SITE_TAIL is set for a `b`; the kernel sets the other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from scpatch.verifier.objects.calls import Calls, Site
from scpatch.verifier.objects.insn import Flow, flow
from scpatch.verifier.objects.read import (
    RELA_SIZE,
    SHF_ALLOC,
    SHT_PROGBITS,
    SHT_RELA,
    STB_WEAK,
    Image,
    Place,
    Rela,
)
from scpatch.verifier.objects.relocations import REL24_NOTOC, REL24_P9NOTOC
from scpatch.verifier.objects.variant import BL, B, without_distance
from scpatch.verifier.types import Common, SiteProof

NAME = ".static_call_sites"
_RELA_NAME = ".rela" + NAME
_REL32 = 26
_SHF_WRITE, _SHF_INFO_LINK = 1, 0x40
_ENTRY = 8
_TAIL = 1
_UNLISTED = frozenset((Common.LOADER, Common.LEFT, Common.WRONG))
_TRAMPOLINE, _KEY = "__SCT__", "__SCK__"
_COPIED = "__ftr_alt_"
"""Sections whose code the kernel copies to where it runs: no site to patch."""


def is_new(before: Image, after: Image, number: int) -> bool:
    """Whether an added section is the table, of an object that had none, or its relocations."""
    if any(section.name == NAME for section in before.sections):
        return False
    section = after.sections[number]
    if section.name == NAME:
        wanted = SHT_PROGBITS, SHF_ALLOC | _SHF_WRITE, 0, 0, 4, _ENTRY
    else:
        tables = _added(before, after)
        if section.name != _RELA_NAME or len(tables) != 1:
            return False
        wanted = SHT_RELA, _SHF_INFO_LINK, after.symtab, tables[0], 8, RELA_SIZE
    shape = section.type, section.flags, section.link, section.info
    return (*shape, section.align, section.entry_size) == wanted


def _added(before: Image, after: Image) -> list[int]:
    """The tables that were added."""
    return [
        section.number for section in after.sections[len(before.sections) :] if section.name == NAME
    ]


class Listed(NamedTuple):
    """A call that belongs in the table."""

    trampoline: str
    is_needed: bool
    """It may not be missing."""


def check(before: Calls, after: Calls, listed: Mapping[Place, Listed]) -> Iterator[str]:
    """One sentence for each fault of an added table.

    `listed` are the calls that belong there, by the place of the `bl`.
    """
    image = after.image
    added = _added(before.image, image)
    if not added:
        return
    tables = image.rela_sections.get(added[0], [])
    if len(added) > 1 or len(tables) != 1:
        yield f"{NAME}: {len(added)} tables with {len(tables)} sections of relocations."
        return
    relas = image.relas(tables[0])
    size = image.sections[added[0]].size
    if any(image.content(added[0])) or [rela.offset for rela in relas] != [*range(0, size, 4)]:
        yield f"{NAME}: the words are not zero, or not each has one relocation."
        return
    if not size or size % _ENTRY or any(rela.type != _REL32 for rela in relas):
        yield f"{NAME}: no table of entries of two relative words."
        return
    yield from _entries(after, list(zip(relas[::2], relas[1::2], strict=True)), listed)


def _entries(
    after: Calls, entries: list[tuple[Rela, Rela]], listed: Mapping[Place, Listed]
) -> Iterator[str]:
    image = after.image
    missing = dict(listed)
    last = (Place(0, 0), Place(0, 0))
    for number, (call, key) in enumerate(entries):
        place = image.target(call)
        if place is None or place not in listed:
            yield f"{NAME}: entry {number} names no call that belongs there."
            continue
        where = f"{NAME}: entry {number}, for {image.where(place)},"
        if missing.pop(place, None) is None:
            yield f"{where} is there twice."
        if image.symbols[call.symbol].binding == STB_WEAK:
            yield f"{where} names its place by a weak symbol."
        flags = 0 if after.word(place) & 1 else _TAIL
        if fault := _key_fault(after, key, listed[place].trampoline, flags):
            yield f"{where} {fault}."
        order = image.target(key) or Place(0, key.symbol), place
        if order < last:
            yield f"{where} is not in the order of the keys."
        last = order
    for place in (place for place, call in missing.items() if call.is_needed):
        yield f"{image.where(place)}: the call is missing in {NAME}."


def _key_fault(after: Calls, rela: Rela, trampoline: str, flags: int) -> str:
    """What is wrong with an entry's second word; empty for nothing."""
    image = after.image
    symbol = image.symbols[rela.symbol]
    if rela.addend != flags:
        return f"has other flags than {flags:#x}, or a key that is {rela.addend:#x} bytes off"
    wanted = _KEY + trampoline.removeprefix(_TRAMPOLINE)
    if symbol.name == wanted:
        return ""
    # EXPORT_STATIC_CALL_TRAMP: the kernel finds the key by the trampoline.
    hidden = all(symbol.name != wanted for symbol in image.symbols)
    if after.module and not symbol.section and symbol.name == trampoline and hidden:
        return ""
    return f"has the key {symbol.name}, not {wanted}"


def listed(calls: Calls, sites: Iterable[SiteProof]) -> dict[Place, Listed]:
    """The calls that the kernel may patch, as the proof found them."""
    found = {}
    for proof in sites:
        place = Place(proof.section, proof.offset)
        copied = proof.section_name.startswith(_COPIED)
        if copied or proof.state in _UNLISTED:
            continue
        site = calls.sites[place]
        if proof.state is Common.NOTOC and not _is_plain(calls, site):
            continue
        # A call without r2 looks the same whoever defines the trampoline, and however far away.
        is_needed = proof.state is not Common.NOTOC or site.trampoline.is_defined
        at = site.stub.branch if site.stub is not None and site.stub.thunk else place
        found[at] = Listed(proof.trampoline, is_needed)
    return found


def _is_plain(calls: Calls, site: Site) -> bool:
    """Whether a call from code without r2 goes straight to a trampoline that needs none either."""
    trampoline, word = site.trampoline, calls.word(site.place)
    is_branch = flow(word) in (Flow.CALL, Flow.JUMP) and without_distance(word) in (BL, B)
    one_entry = not trampoline.is_defined or trampoline.local_entry == trampoline.place.offset
    fits = one_entry and not trampoline.is_indirect and not trampoline.is_data
    straight = site.rela.type in (REL24_NOTOC, REL24_P9NOTOC) and not site.distance
    return is_branch and fits and straight and not calls.stub_by_loader(trampoline)
