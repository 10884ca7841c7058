"""What strategy `localentry` may do to trampolines, and `--unmark` may undo.

A trampoline is marked where st_other bits 5-7 become 1. Control then comes to what was its global
entry point with the caller's r2 and anything in r12 (linkers' stubs set neither), so that code
there which computes r2 from r12 must be gone. It is for the trampoline alone to show: each one that
is newly marked is looked at here, word by word and relocation by relocation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from scpatch.verifier.objects import record
from scpatch.verifier.objects.calls import Calls, Site
from scpatch.verifier.objects.insn import Flow, flow, target
from scpatch.verifier.objects.read import Image, Place, Rela, Symbol
from scpatch.verifier.objects.stubs import unescaped
from scpatch.verifier.objects.trampolines import Trampoline
from scpatch.verifier.objects.variant import BL
from scpatch.verifier.reasons import paca

NAME = "localentry"
_NOP = 0x60000000
_NONE, _ADDR16_LO, _ADDR16_HA, _ENTRY, _REL16_LO, _REL16_HA = 0, 4, 6, 118, 250, 252
_TOC_RELATIVE = frozenset((*range(14, 18), *range(47, 51), 59, 60, 63, 64, *range(79, 95)))
"""Relocations of offsets from r2 (ELFv2 ABI, table of relocation types)."""

_ADDIS_R2_R12, _LIS_R2, _ADDI_R2_R2 = 0x3C4C, 0x3C40, 0x3842
_LD_R2_R12, _ADD_R2_R12 = 0xE84C, 0x7C426214

BLOCK_NAME = re.compile(r"r2toc\.(.+)\.[0-9a-f]{12}", re.DOTALL)
BLOCK = (0x7C0802A6, 0x429F0005, 0x7D8802A6, 0x7C0803A6, 0x3C4C0000, 0x38420000)
"""`mflr r0; bcl 20,31,.+4; mflr r12; mtlr r0; addis r2,r12,0; addi r2,r2,0`; a `b` follows. r12 is
then the address of the third instruction."""
BLOCK_SIZE = 28
BLOCK_RELOCATIONS = {16: (_REL16_HA, 8), 20: (_REL16_LO, 12)}
"""By offset in it: type and addend, such that .TOC. - r12 is added to r12."""


@dataclass(frozen=True, slots=True)
class Block:
    """Appended code that sets r2 for one trampoline. `fault` says what is wrong with it."""

    symbol: Symbol
    place: Place
    fault: str
    size: int = BLOCK_SIZE

    @property
    def relocations(self) -> Mapping[Place, int]:
        """What it needs, with the types."""
        at = self.place
        return {
            Place(at.section, at.offset + offset): kind
            for offset, (kind, _) in BLOCK_RELOCATIONS.items()
        }


def may_differ(before: Image, after: Image, names: Calls) -> frozenset[int]:
    """The numbers of the symbols whose st_other may differ: defined trampolines of which nothing
    but bits 5-7 does, to 1 or from 1 to 0."""
    count = min(len(before.symbols), len(after.symbols))
    found = set()
    for symbol in (one.symbol for here in names.trampolines.values() for one in here):
        if symbol.number >= count or symbol.section <= 0:
            continue
        old, new = symbol.other, after.symbols[symbol.number].other
        if (
            old != new
            and old & 31 == new & 31
            and (new >> 5 == 1 or (old >> 5, new >> 5) == (1, 0))
        ):
            found.add(symbol.number)
    return frozenset(found)


def patched(calls: Calls, one: Trampoline) -> int:
    """An st_other that says where the kernel patches a trampoline: behind its prologue, also where
    that was replaced, so that there is one entry point now."""
    if not one.place.section or one.symbol.other >> 5 > 1:
        return one.symbol.other
    first, second = (calls.word(Place(one.place.section, one.place.offset + at)) for at in (0, 4))
    replaced = paca.offset(first) is not None or _goes_to_block(calls, one.place, first)
    return 3 << 5 if replaced and second == _NOP else one.symbol.other


def _goes_to_block(calls: Calls, place: Place, word: int) -> bool:
    """Whether a trampoline begins with a branch to code that sets r2, and not to its target."""
    to = target(word, place.offset) if flow(word) is Flow.JUMP else None
    if to is None or place in calls.branches:
        return False
    symbol = calls.image.function_at(Place(place.section, to))
    return symbol is not None and BLOCK_NAME.fullmatch(symbol.name) is not None


def is_undone(before: Calls, after: Calls, was: Site, now: Site) -> bool:
    """Whether the linker was to see to a call, and no longer is, here or where it is defined."""
    if was.trampoline.place.section:
        return was.trampoline.marked and not now.trampoline.marked
    return NAME in before.noted - after.noted


def call_errors(before: Calls, after: Calls, was: Site, now: Site) -> Iterator[str]:
    """What a call that was made ready for the linker may not have become."""
    where = after.image.where(now.place)
    following = Place(now.place.section, now.place.offset + 4)
    if after.word(now.place) & ~0x3FFFFFC != BL:
        yield f"{where}: the bl was changed."
    if after.word(following) != _NOP:
        yield f"{where}: {after.word(following):#010x} is no nop that every linker takes for one."
    named = after.image.symbols[now.rela.symbol]
    if now.rela != was.rela and (named.other >> 5 != 1 or now.rela.addend):
        yield f"{where}: the relocation was changed, and does not name a marked trampoline."


@dataclass(frozen=True, eq=False)
class Marking:
    """The trampolines that were marked or unmarked, and all that may differ with them."""

    before: Calls
    after: Calls
    _by_offset: dict[tuple[bool, int], dict[int, list[int]]] = field(
        default_factory=dict, repr=False
    )

    @cached_property
    def marked(self) -> tuple[tuple[Trampoline, Trampoline], ...]:
        """Newly marked ones, as they were and as they are."""
        return tuple(pair for pair in self._changed if pair[1].marked)

    @cached_property
    def unmarked(self) -> tuple[tuple[Trampoline, Trampoline], ...]:
        return tuple(pair for pair in self._changed if pair[0].marked)

    @cached_property
    def _changed(self) -> list[tuple[Trampoline, Trampoline]]:
        new = self.after.image.symbols
        return [
            (one, Trampoline(new[one.symbol.number], one.place))
            for here in self.before.trampolines.values()
            for one in here
            if one.symbol.other != new[one.symbol.number].other
        ]

    @property
    def applied(self) -> frozenset[str]:
        """The strategies that the changes of trampolines are of."""
        found = {NAME} if self.marked else set()
        return frozenset(found | ({"callsite"} if self.unmarked else set()))

    @cached_property
    def blocks(self) -> dict[Place, Block]:
        """The code that was appended to set r2, by place."""
        symbols = self.after.image.symbols[len(self.before.image.symbols) :]
        wanted = {self._detour(one): one for _, one in self.marked}
        found = {}
        for symbol in symbols:
            if symbol.section > 0 and BLOCK_NAME.fullmatch(symbol.name):
                place = Place(symbol.section, symbol.value)
                fault = self._block_fault(symbol, place, wanted.get(place))
                found[place] = Block(symbol, place, fault)
        return found

    def _detour(self, one: Trampoline) -> Place | None:
        """Where the first instruction of a trampoline branches to."""
        word = self.after.word(one.place)
        to = target(word, one.place.offset) if flow(word) is Flow.JUMP else None
        return None if to is None else Place(one.place.section, to)

    def _block_fault(self, symbol: Symbol, place: Place, one: Trampoline | None) -> str:
        if one is None:
            return "no trampoline branches to it"
        words = [self.after.word(Place(place.section, place.offset + at)) for at in range(0, 28, 4)]
        back = target(words[6], place.offset + 24) if flow(words[6]) is Flow.JUMP else None
        if tuple(words[:6]) != BLOCK or back != one.place.offset + 8 or place.offset % 4:
            return "it does not set r2 and go on behind the prologue"
        found = {at: (rela.type, rela.addend) for at, rela in self._on(self.after, place, 28)}
        if found != BLOCK_RELOCATIONS or not all(
            self._is_toc(self.after, rela) for _, rela in self._on(self.after, place, 28)
        ):
            return "its relocations are not the distance to .TOC."
        name = BLOCK_NAME.fullmatch(symbol.name)
        names = {named.symbol.name for named in self.after.trampolines[one.place]}
        if name is None or unescaped(name[1]) not in names:
            return f"it is the code of {one.symbol.name}"
        return ""

    def permitted(self) -> dict[int, list[range]]:
        """The bytes of old sections that may differ, as section offsets by section: prologues that
        were replaced, their relocations, and the note of the strategy that was undone."""
        found: dict[int, list[range]] = {}
        for one, now in self.marked:
            start = one.place.offset
            if self._words(self.before, one) == self._words(self.after, now):
                continue
            found.setdefault(one.place.section, []).append(range(start, start + 8))
            for entry, _ in self._entries(self.before, one.place):
                found.setdefault(entry.section, []).append(
                    range(entry.offset + 8, entry.offset + 24)
                )
        for section, span in record.noted(self.before.image, NAME) if self.unmarked else ():
            found.setdefault(section, []).append(span)
        return found

    def check(self) -> Iterator[str]:
        """One sentence for each trampoline that is not right with its mark, or without it."""
        if self.marked and self.unmarked:
            yield "some trampolines were marked and others unmarked."
        for section, span in record.noted(self.before.image, NAME) if self.unmarked else ():
            if any(self.after.image.content(section)[span.start : span.stop]):
                yield f"{record.NAME}: the note of what was undone is still there, or changed."
        for was, now in self.marked:
            where = self.after.image.where(now.place)
            if fault := self._fault(was, now):
                yield f"{where}: {now.symbol.name} was marked, and {fault}."
        if self.marked and self.after.module:
            yield "the trampolines of a module were marked, and no linker follows."

    def loads(self) -> Iterator[paca.Restore]:
        """The trampolines that load r2 from the PACA at their entry point."""
        for place in self.after.trampolines:
            offset = paca.offset(self.after.word(place)) if place.section else None
            if offset is not None:
                yield paca.Restore(self.after.image.where(place), offset)

    def _fault(self, was: Trampoline, now: Trampoline) -> str:
        """What is wrong with a newly marked trampoline; empty if nothing is."""
        place = now.place
        old, new = self._words(self.before, was), self._words(self.after, now)
        relas = [rela for _, rela in self._on(self.after, place, 8)]
        distance = was.local_entry - place.offset
        if distance not in (0, 8):
            return f"its entry points are {distance} bytes apart"
        if old != new:
            return self._replaced(old, new, place, relas)
        if relas != [rela for _, rela in self._on(self.before, place, 8)]:
            return "the relocations of its prologue were changed"
        if self._computes_from_r12(new):
            return "computes r2 from r12"
        if new[0] >> 16 == _LIS_R2 and new[1] >> 16 == _ADDI_R2_R2:
            return "" if self._absolute(relas) else "its prologue has unknown relocations"
        if paca.offset(new[0]) is not None and not relas:
            return ""
        if distance:
            return "its prologue is not known"
        size = max(now.symbol.size, 8)
        if any(rela.type in _TOC_RELATIVE for _, rela in self._on(self.after, place, size)):
            return "uses an r2 that it does not set"
        return ""

    @staticmethod
    def _words(calls: Calls, one: Trampoline) -> tuple[int, int]:
        """The first two words of a trampoline; 0 for the second where it has only one."""
        second = Place(one.place.section, one.place.offset + 4)
        return calls.word(one.place), 0 if one.symbol.size == 4 else calls.word(second)

    def _replaced(
        self, old: tuple[int, int], new: tuple[int, int], place: Place, relas: list[Rela]
    ) -> str:
        """What is wrong with a prologue that was replaced."""
        if not self._computes_from_r12(old):
            return "words were overwritten that are no prologue"
        if any(rela.type != _NONE or rela.symbol or rela.addend for rela in relas):
            return "a relocation changes what was put in place of its prologue"
        if new[1] != _NOP:
            return f"{new[1]:#010x} is the second word of what was its prologue"
        if paca.offset(new[0]) is not None:
            return ""
        detour = self._detour(Trampoline(self.after.trampolines[place][0].symbol, place))
        if detour is None or detour not in self.blocks:
            return "its prologue was replaced by something that does not set r2"
        return ""

    @staticmethod
    def _computes_from_r12(words: tuple[int, int]) -> bool:
        first, second = words
        added = first >> 16 == _ADDIS_R2_R12 and second >> 16 == _ADDI_R2_R2
        return added or (first >> 16 == _LD_R2_R12 and second == _ADD_R2_R12)

    def _absolute(self, relas: list[Rela]) -> bool:
        kinds = [(rela.type, rela.addend) for rela in relas]
        return kinds == [(_ADDR16_HA, 0), (_ADDR16_LO, 0)] and all(
            self._is_toc(self.after, rela) for rela in relas
        )

    @staticmethod
    def _is_toc(calls: Calls, rela: Rela) -> bool:
        return calls.image.symbols[rela.symbol].name == ".TOC."

    def _entries(self, calls: Calls, place: Place, size: int = 8) -> list[tuple[Place, Rela]]:
        """The relocations on a stretch of code, with where each is: table and offset in it."""
        found = []
        for table in calls.image.rela_sections.get(place.section, ()):
            if (key := (calls is self.after, table)) not in self._by_offset:
                index: dict[int, list[int]] = {}
                for entry, rela in enumerate(calls.image.relas(table)):
                    index.setdefault(rela.offset, []).append(entry)
                self._by_offset[key] = index
            end = min(place.offset + size, calls.image.sections[place.section].size)
            for offset in range(place.offset, end):
                for entry in self._by_offset[key].get(offset, ()):
                    found.append((Place(table, 24 * entry), calls.image.relas(table)[entry]))
        return found

    def _on(self, calls: Calls, place: Place, size: int) -> list[tuple[int, Rela]]:
        """The relocations on a stretch of code, with where in it each applies, in that order."""
        return [(rela.offset - place.offset, rela) for _, rela in self._entries(calls, place, size)]
