"""Strategy `localentry`: trampolines are marked, so that the linkers save and restore r2.

A trampoline is marked if st_other bits 5-7 become 1. Control then comes to what was its global
entry point with the caller's r2 and anything in r12 (linkers' stubs set neither), so code there
that computes r2 from r12 must be gone. Each trampoline that is newly marked is looked at here, word
by word and relocation by relocation. `--unmark` undoes the mark.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Final

from scpatch.verifier.objects import record
from scpatch.verifier.objects.calls import Calls, Site
from scpatch.verifier.objects.insn import Flow, flow, target, toc_load
from scpatch.verifier.objects.read import Place, Rela, Symbol
from scpatch.verifier.objects.relocations import (
    ADDR16_HA,
    ADDR16_LO,
    FROM_TOC,
    NONE,
    REL16_HA,
    REL16_LO,
)
from scpatch.verifier.objects.stubs import unescaped
from scpatch.verifier.objects.trampolines import Trampoline
from scpatch.verifier.objects.variant import BL, LD_R2, NOP, NOPS, without_distance
from scpatch.verifier.reasons.interface import (
    Block,
    Judgement,
    Load,
    Spans,
    Strategy,
    Surroundings,
    open_definition,
    restore_fault,
)
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason, SiteProof

_ADDIS_R2_R12, _LIS_R2, _ADDI_R2_R2 = 0x3C4C, 0x3C40, 0x3842
_LD_R2_R12, _ADD_R2_R12 = 0xE84C, 0x7C426214

_CODE_NAME: Final = re.compile(r"r2toc\.(.+)\.[0-9a-f]{12}", re.DOTALL)
_CODE: Final = (0x7C0802A6, 0x429F0005, 0x7D8802A6, 0x7C0803A6, 0x3C4C0000, 0x38420000)
"""`mflr r0; bcl 20,31,.+4; mflr r12; mtlr r0; addis r2,r12,0; addi r2,r2,0`; a `b` follows. r12 is
then the address of the third instruction."""
_SIZE: Final = 28
_CODE_RELOCATIONS: Final = {16: (REL16_HA, 8), 20: (REL16_LO, 12)}
"""By the offset in it of an instruction: type and addend, such that .TOC. - r12 is added to r12. A
distance counts from its field in the instruction."""


class _Localentry(Strategy):
    name = "localentry"
    reasons = (Common.LINKER,)
    code_name = _CODE_NAME

    def judge(self, code: Code, site: Site) -> Judgement | None:
        """The linker looks at the symbol that the relocation names, not at what is where that leads
        to, and takes a restore that is in place already for a nop."""
        calls, trampoline = code.calls, site.trampoline
        after = calls.word(site.following)
        left_to_others = calls.module or site.stub is not None or trampoline.is_indirect
        if left_to_others or site.resolved or calls.stub_by_loader(trampoline):
            return None
        why = ""
        if trampoline.is_defined:
            named = calls.image.symbols[site.rela.symbol]
            if named.other >> 5 == 1 and (after in NOPS or after == LD_R2):
                why = "st_other = 1: the linker saves and restores r2"
        elif not trampoline.symbol.section and self.name in calls.noted and after in NOPS:
            why = "the linker saves and restores r2 if the trampoline is marked where it is defined"
        return Judgement(Common.LINKER, why) if why else None

    def judge_alone(
        self, site: Site, found: Judgement, known: Surroundings
    ) -> tuple[Reason, str] | None:
        if found.reason is not Common.LINKER or site.trampoline.is_indirect:
            return None
        if not site.trampoline.is_defined:
            return Common.OPEN, f"{found.why}: check that object, too"
        fault = self._fault_now(site.trampoline, known.paca_toc)
        if fault := fault or restore_fault(self.after, site):
            return Common.WRONG, f"{found.why}, but {fault}"
        return open_definition(site, found.why)

    def call_faults(self, was: Site, now: Site, reason: Reason) -> Iterator[str]:
        calls = self.after.calls
        if without_distance(calls.word(now.place)) != BL:
            yield "the bl was changed"
        if (word := calls.word(now.following)) != NOP:
            yield f"{word:#010x} is not a nop that every linker knows"
        named = calls.image.symbols[now.rela.symbol]
        if now.rela != was.rela and (named.other >> 5 != 1 or now.rela.addend):
            yield "the relocation was changed, and does not name a marked trampoline"

    def may_undo(self, was: Site, now: Site) -> bool:
        """Whether the linker was to see to a call, and no longer is, here or where the trampoline
        is defined."""
        if was.trampoline.is_defined:
            return was.trampoline.marked and not now.trampoline.marked
        return self.name in self.before.calls.noted - self.after.calls.noted

    def describe(self, proof: SiteProof, was: Site, now: Site) -> SiteProof:
        """The kernel patches a trampoline after its prologue, also if that was replaced, so that
        there is one entry point now."""
        calls, trampoline = self.before.calls, was.trampoline
        if not trampoline.is_defined or trampoline.symbol.other >> 5 > 1:
            return proof
        first, second = calls.words_at(trampoline.place, 2)
        is_replaced = toc_load(first) is not None or _goes_to_code(calls, trampoline.place)
        return replace(proof, trampoline_other=3 << 5) if is_replaced and second == NOP else proof

    def symbols_that_differ(self) -> frozenset[int]:
        return frozenset(was.symbol.number for was, _ in self._changed)

    @cached_property
    def _marked(self) -> list[tuple[Trampoline, Trampoline]]:
        """The newly marked trampolines, as they were and as they are."""
        return [pair for pair in self._changed if pair[1].marked]

    @cached_property
    def _changed(self) -> list[tuple[Trampoline, Trampoline]]:
        """Defined trampolines of which only bits 5-7 differ, to 1 or from 1 to 0."""
        new = self.after.calls.image.symbols
        return [
            (trampoline, Trampoline(new[trampoline.symbol.number], trampoline.place))
            for trampoline in self.before.calls.every_trampoline
            if trampoline.is_defined
            and trampoline.symbol.number < len(new)
            and _only_marks(trampoline.symbol.other, new[trampoline.symbol.number].other)
        ]

    def is_applied(self, states: Collection[Reason], changed: Collection[Reason]) -> bool:
        return bool(self._marked) or Common.LINKER in changed

    def blocks(self) -> Mapping[Place, Block]:
        return self._blocks

    @cached_property
    def _blocks(self) -> dict[Place, Block]:
        wanted = {_detour(self.after.calls, now.place): now for _, now in self._marked}
        blocks = {}
        for place, symbol in self.appended.items():
            wanted_here = _code_relocations(self.after.calls)
            needs = {place.after(at): kind for at, (kind, _) in wanted_here.items()}
            fault = self._code_fault(symbol, place, wanted.get(place))
            blocks[place] = Block(symbol, _SIZE, fault, relocations=needs)
        return blocks

    def _code_fault(self, symbol: Symbol, place: Place, trampoline: Trampoline | None) -> str:
        calls = self.after.calls
        if trampoline is None:
            return "no trampoline branches to it"
        *words, last = calls.words_at(place, _SIZE // 4)
        back = target(last, place.offset + 24) if flow(last) is Flow.JUMP else None
        if (*words,) != _CODE or back != trampoline.place.offset + 8 or place.offset % 4:
            return "it does not set r2 and go on after the prologue"
        relas = [rela for _, rela in calls.relocations_at(place, _SIZE)]
        by_offset = {rela.offset - place.offset: (rela.type, rela.addend) for rela in relas}
        if by_offset != _code_relocations(calls) or not all(_is_toc(calls, rela) for rela in relas):
            return "its relocations are not the distance to .TOC."
        name = _CODE_NAME.fullmatch(symbol.name)
        if name is None or unescaped(name[1]) not in calls.names(trampoline):
            return f"it is the code of {trampoline.symbol.name}"
        return ""

    def spans(self) -> Spans:
        """Prologues that were replaced, their relocations, and the note of what was undone."""
        spans: Spans = [*self._undone]
        for was, now in self._marked:
            start = was.place.offset
            if _prologue(self.before.calls, was) == _prologue(self.after.calls, now):
                continue
            spans.append((was.place.section, range(start, start + 8)))
            for entry, _ in self.before.calls.relocations_at(was.place, 8):
                spans.append((entry.section, range(entry.offset + 8, entry.offset + 24)))
        return spans

    @cached_property
    def _undone(self) -> Spans:
        """Where the note of what was undone stood."""
        return (
            [*record.noted(self.before.calls.image, self.name)]
            if any(was.marked for was, _ in self._changed)
            else []
        )

    def faults(self, *, changed: bool) -> Iterator[str]:
        if self._marked and any(was.marked for was, _ in self._changed):
            yield "some trampolines were marked and others unmarked."
        for section, span in self._undone:
            if any(self.after.calls.image.content(section)[span.start : span.stop]):
                yield f"{record.NAME}: the note of what was undone is still there, or changed."
        for was, now in self._marked:
            if fault := self._fault(was, now):
                where = self.after.calls.image.where(now.place)
                yield f"{where}: {now.symbol.name} was marked, and {fault}."
        if self._marked and self.after.calls.module:
            yield "the trampolines of a module were marked, and no linker follows."

    def loads(self) -> Iterator[Load]:
        """The trampolines that load r2 from the PACA at their entry point."""
        calls = self.after.calls
        for place in calls.trampolines:
            offset = toc_load(calls.word(place)) if place.section else None
            if offset is not None:
                yield Load(calls.image.where(place), offset)

    def _fault(self, was: Trampoline, now: Trampoline) -> str:
        """What is wrong with a newly marked trampoline; empty if nothing is."""
        calls, place = self.after.calls, now.place
        old, new = _prologue(self.before.calls, was), _prologue(calls, now)
        relas = [rela for _, rela in calls.relocations_at(place, 8)]
        distance = was.local_entry - place.offset
        if distance not in (0, 8):
            return f"its entry points are {distance} bytes apart"
        if old != new:
            return self._replaced(old, new, place, relas)
        if relas != [rela for _, rela in self.before.calls.relocations_at(place, 8)]:
            return "the relocations of its prologue were changed"
        return self._unchanged(now, distance)

    def _fault_now(self, now: Trampoline, paca_toc: int | None) -> str:
        """What is wrong with a marked trampoline of which it is not known how it was before."""
        calls = self.after.calls
        offset = toc_load(calls.word(now.place))
        if None not in (offset, paca_toc) and offset != paca_toc:
            return f"its trampoline loads r2 from {offset}(r13), not {paca_toc}(r13)"
        to = _detour(calls, now.place)
        if _goes_to_code(calls, now.place) and to is not None:
            symbol = calls.image.function_at(to)
            assert symbol is not None, "the code has a name"
            fault = self._code_fault(symbol, to, now)
        else:
            fault = self._unchanged(now, 0)
        return f"of its trampoline: {fault}" if fault else ""

    def _unchanged(self, now: Trampoline, distance: int) -> str:
        """What is wrong with a marked trampoline whose code is that of the compiler. `distance` is
        that of the two entry points it had, in bytes."""
        calls, place = self.after.calls, now.place
        new = _prologue(calls, now)
        relas = [rela for _, rela in calls.relocations_at(place, 8) if rela.type != NONE]
        if _computes_from_r12(*new):
            return "computes r2 from r12"
        if new[0] >> 16 == _LIS_R2 and new[1] >> 16 == _ADDI_R2_R2:
            return "" if _is_absolute(calls, relas) else "its prologue has unknown relocations"
        if toc_load(new[0]) is not None and not relas:
            return ""
        if distance:
            return "its prologue is not known"
        size = max(now.symbol.size, 8)
        if any(rela.type in FROM_TOC for _, rela in calls.relocations_at(place, size)):
            return "uses an r2 that it does not set"
        return ""

    def _replaced(
        self, old: tuple[int, int], new: tuple[int, int], place: Place, relas: list[Rela]
    ) -> str:
        """What is wrong with a prologue that was replaced."""
        if not _computes_from_r12(*old):
            return "words were overwritten that are no prologue"
        if any(rela.type != NONE or rela.symbol or rela.addend for rela in relas):
            return "a relocation changes what was put in place of its prologue"
        if new[1] != NOP:
            return f"{new[1]:#010x} is the second word of what was its prologue"
        if toc_load(new[0]) is None and _detour(self.after.calls, place) not in self._blocks:
            return "its prologue was replaced by something that does not set r2"
        return ""


def _code_relocations(calls: Calls) -> dict[int, tuple[int, int]]:
    """`_CODE_RELOCATIONS` by the offset of the field, with the addend for it."""
    field = calls.image.variant.low_half
    return {at + field: (kind, to + field) for at, (kind, to) in _CODE_RELOCATIONS.items()}


def _only_marks(old: int, new: int) -> bool:
    """Whether st_other was changed in bits 5-7 alone, to 1 or from 1 to 0."""
    return old != new and old & 31 == new & 31 and (new >> 5 == 1 or (old >> 5, new >> 5) == (1, 0))


def _detour(calls: Calls, place: Place) -> Place | None:
    """Where the first instruction of a trampoline branches to."""
    word = calls.word(place)
    to = target(word, place.offset) if flow(word) is Flow.JUMP else None
    return None if to is None else Place(place.section, to)


def _goes_to_code(calls: Calls, place: Place) -> bool:
    """Whether a trampoline begins with a branch to code that sets r2, and not to its target."""
    to = None if place in calls.branches else _detour(calls, place)
    symbol = calls.image.function_at(to) if to is not None else None
    return symbol is not None and _CODE_NAME.fullmatch(symbol.name) is not None


def _prologue(calls: Calls, trampoline: Trampoline) -> tuple[int, int]:
    """The first two words of a trampoline; 0 for the second if it has only one."""
    first, second = calls.words_at(trampoline.place, 2)
    return first, 0 if trampoline.symbol.size == 4 else second


def _computes_from_r12(first: int, second: int) -> bool:
    is_added = first >> 16 == _ADDIS_R2_R12 and second >> 16 == _ADDI_R2_R2
    return is_added or (first >> 16 == _LD_R2_R12 and second == _ADD_R2_R12)


def _is_absolute(calls: Calls, relas: list[Rela]) -> bool:
    kinds = [(rela.type, rela.addend) for rela in relas]
    is_known = kinds == [(ADDR16_HA, 0), (ADDR16_LO, 0)]
    return is_known and all(_is_toc(calls, rela) for rela in relas)


def _is_toc(calls: Calls, rela: Rela) -> bool:
    return calls.image.symbols[rela.symbol].name == ".TOC."


STRATEGY: Final = _Localentry
