"""Is r2 in 24(r1) at a call site? A search backwards from the site.

A restore `ld r2,24(r1)` is right when, on every path that leads to it, the function has stored
its own r2 in the TOC save doubleword of the frame that is live at the site. The search holds
*needs*, of two kinds, each for the moment before one instruction:

    SLOT   24(r1) must hold the function's r2
    R2     r2 must hold the function's r2
    FRAME  r1 must point at a frame of the function's own

and steps from each to all instructions that control may come from. `std r2,24(r1)` turns a SLOT
into an R2, `ld r2,24(r1)` an R2 into a SLOT; the function's entry fulfils R2 (ELFv2 ABI: at its
local entry point r2 is its TOC pointer) and can never fulfil SLOT. A change of r1, another store to
the slot, a way in from outside the function, or anything unknown ends the search without a proof. A
need that was seen already need not be followed again: whatever path there is starts at the entry.

What it takes for granted is the ABI: a callee gives r1 back as it was and writes nothing to its
caller's frame but, in a linker's stub, the present r2 to 24(r1); and no pointer leads there.

scpatch's own analysis goes forwards, from the entry to the site, with a state for each block. The
two have nothing in common but the question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

from scpatch.verify.proof.calls import NOPS, REL24
from scpatch.verify.proof.entries import Entries
from scpatch.verify.proof.insn import PADDING, Effect, Flow, base_is_r1, effect, flow
from scpatch.verify.proof.read import Place, Symbol

_LOCAL_ENTRY = {2: 4, 3: 8, 4: 16, 5: 32, 6: 64}
"""Distance of the local entry point in bytes by st_other bits 5-7 (ELFv2 ABI, st_other)."""


_TO_CTR_OR_TAR = (528, 560)
"""The extended opcodes of `bcctr` and `bctar`."""
_STDU_R1, _HEADER = 0xF821, 32
"""`stdu r1,N(r1)`, upper half; and the bytes of the smallest frame that has a TOC save doubleword
(ELFv2 ABI, stack frame)."""


class Need(Enum):
    SLOT = auto()
    R2 = auto()
    FRAME = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """`saves` are the section offsets of what fills the slot: stores, and calls of stubs. Shown
    where `fault` is empty."""

    saves: tuple[int, ...] = ()
    fault: str = ""


class _NotShownError(Exception):
    """Why the search cannot go on."""


@dataclass(frozen=True, eq=False)
class _Function:
    """A function's instructions. Offsets are section offsets."""

    entries: Entries
    symbol: Symbol
    start: int
    end: int

    @cached_property
    def jumps(self) -> list[int]:
        """Computed jumps, to any place of the function: `bctr` of a switch table. Where such a
        table leads is not read; what must hold at a place must hold at each of them."""
        return [
            at
            for at in range(self.start, self.end, 4)
            if flow(word := self.word(at)) in (Flow.LEAVES, Flow.MAY_LEAVE)
            and word >> 1 & 0x3FF in _TO_CTR_OR_TAR
        ]

    @property
    def local_entry(self) -> int:
        return self.start + _LOCAL_ENTRY.get(self.symbol.other >> 5, 0)

    def place(self, offset: int) -> Place:
        return Place(self.symbol.section, offset)

    def word(self, offset: int) -> int:
        return self.entries.calls.word(self.place(offset))

    def effect(self, offset: int) -> Effect:
        """What the instruction does; unknown where a relocation may move a displacement from r1."""
        word = self.word(offset)
        relocated = self.entries.calls.other_relocations
        if base_is_r1(word) and not relocated.isdisjoint(
            map(self.place, range(offset, offset + 4))
        ):
            return Effect.UNKNOWN
        return effect(word)

    def thunk_return(self, offset: int) -> Place | None:
        """The branch to `offset` at the end of the thunk that the instruction before calls."""
        site = self.entries.calls.sites.get(self.place(offset - 4))
        if site is None or site.stub is None or not site.stub.thunk or site.stub.fault:
            return None
        return Place(site.stub.place.section, site.stub.place.offset + site.stub.size - 4)

    def before(self, offset: int) -> Iterator[int]:
        """The instructions of this function that control may come from to `offset`."""
        came = False
        for source in self.entries.into(self.place(offset)):
            if source == self.thunk_return(offset):
                source = self.place(offset - 4)
            if source.section != self.symbol.section or not self.start <= source.offset < self.end:
                where = self.entries.calls.image.where(source)
                raise _NotShownError(f"{where} branches into the function at +{offset:#x}")
            came = True
            yield source.offset
        if reason := self.entries.from_elsewhere(self.place(offset)):
            raise _NotShownError(f"control may come to +{offset:#x} from elsewhere: {reason}")
        if flow(self.word(offset - 4)) not in (Flow.JUMP, Flow.LEAVES):
            came = True
            yield offset - 4
        if not came and self.word(offset) not in PADDING and not self.jumps:
            raise _NotShownError(f"nothing is seen to lead to +{offset:#x}")


def is_saved(entries: Entries, site: Place) -> Answer:
    """Whether 24(r1) holds the function's r2 whenever control comes to `site`."""
    return _shown(entries, site, Need.SLOT)


def is_framed(entries: Entries, place: Place) -> Answer:
    """Whether r1 points at a frame that the function has pushed whenever control comes there."""
    return _shown(entries, place, Need.FRAME)


def _shown(entries: Entries, site: Place, need: Need) -> Answer:
    symbol = entries.calls.image.function_at(site)
    if symbol is None:
        return Answer(fault="no function symbol covers the call")
    function = _Function(entries, symbol, symbol.value, symbol.value + symbol.size)
    try:
        return Answer(saves=tuple(sorted(_search(function, site.offset, need))))
    except _NotShownError as reason:
        return Answer(fault=str(reason))


def _search(function: _Function, site: int, first: Need) -> set[int]:
    """Follow the needs from `site` back to the entry; the saves that the site itself relies on."""
    open_needs = [(site, first, True)]
    for jump in function.jumps:
        open_needs += [
            (jump, first, True),
            *([(jump, Need.R2, False)] if first is Need.SLOT else []),
        ]
    seen = set(open_needs)
    saves: set[int] = set()
    while open_needs:
        offset, need, is_site = open_needs.pop()  # is_site: the need of the site, not of a save
        if offset in (function.local_entry, function.start):
            _at_entry(function, offset, need)
            continue
        for source in function.before(offset):
            for earlier in _step(function, source, need):
                state = source, earlier, is_site and earlier is need
                if state not in seen:
                    seen.add(state)
                    open_needs.append(state)
            if is_site and _saves(function, source):
                saves.add(source)
    return saves


def _saves(function: _Function, at: int) -> bool:
    """Whether the instruction at `at` saves r2, by itself or as the call of a stub."""
    calls, place = function.entries.calls, function.place(at)
    site = calls.sites.get(place)
    by_stub = site is not None and site.stub is not None
    return by_stub or calls.by_loader(place) or function.effect(at) is Effect.SAVE


def _at_entry(function: _Function, offset: int, need: Need) -> None:
    """A need at the function's entry point."""
    if need is Need.SLOT:
        raise _NotShownError("a path leads from the function's entry to the call without a save")
    if need is Need.FRAME:
        raise _NotShownError("a path leads from the function's entry there without a frame")
    if function.symbol.other >> 5 == 1:
        raise _NotShownError("the function has no TOC pointer of its own in r2 (st_other = 1)")
    for source in function.entries.into(function.place(offset)):
        # A loop back to the entry, not a call of it: r2 need not be the entry's any more.
        if source.section == function.symbol.section and (
            function.start <= source.offset < function.end
            and flow(function.word(source.offset)) is not Flow.CALL
        ):
            raise _NotShownError("the function branches back to its own entry")


def _step(function: _Function, at: int, need: Need) -> Iterable[Need]:
    """What must hold before the instruction at `at` so that `need` holds after it."""
    kind = flow(function.word(at))
    if need is Need.FRAME:
        return _frame(function, at, kind)
    if kind is Flow.CALL:
        return _call(function, at, need)
    if kind is Flow.INDIRECT_CALL:
        if need is Need.R2:
            raise _NotShownError(f"r2 is foreign after the indirect call at +{at:#x}")
        return (Need.SLOT,)
    site = function.entries.calls.sites.get(function.place(at))
    if site is not None and site.stub is not None and site.stub.thunk:
        return (Need.R2,)  # what it saves it restores
    does = function.effect(at)
    if does is Effect.UNKNOWN:
        raise _NotShownError(f"the instruction at +{at:#x} is unknown")
    if need is Need.SLOT:
        if does is Effect.SAVE:
            return (Need.R2,)
        if does in (Effect.MOVES_R1, Effect.WRITES_SLOT):
            what = "r1 changes" if does is Effect.MOVES_R1 else "another value may go to 24(r1)"
            raise _NotShownError(f"{what} at +{at:#x}")
        return (Need.SLOT,)
    if does is Effect.RESTORE:
        return (Need.SLOT,)
    if does is Effect.WRITES_R2:
        raise _NotShownError(f"r2 is written at +{at:#x}")
    return (Need.R2,)


def _frame(function: _Function, at: int, kind: Flow) -> Iterable[Need]:
    """What must hold before an instruction so that the frame behind it is the function's own."""
    if kind is not Flow.NEXT:
        return (Need.FRAME,)
    does, word = function.effect(at), function.word(at)
    if does is Effect.UNKNOWN:
        raise _NotShownError(f"the instruction at +{at:#x} is unknown")
    if does is not Effect.MOVES_R1:
        return (Need.FRAME,)
    if word >> 16 == _STDU_R1 and word & 3 == 1 and 0x8000 <= word & 0xFFFC <= 0x10000 - _HEADER:
        return ()
    raise _NotShownError(f"r1 changes at +{at:#x}")


def _call(function: _Function, at: int, need: Need) -> Iterable[Need]:
    """A direct call. A linker's stub may store r2 in the slot on the way, so both must hold."""
    calls = function.entries.calls
    both = (Need.SLOT, Need.R2) if need is Need.SLOT else (Need.R2,)
    if calls.by_loader(function.place(at)):
        return (Need.R2,)  # its stub stores r2, and the nop becomes the restore
    entry = calls.branches.get(function.place(at))
    site = calls.sites.get(function.place(at))
    if entry is None and site is None:
        return both
    rela = entry[0] if entry is not None else site.rela if site is not None else None
    assert rela is not None, "one of them is there"
    if site is not None and site.stub is not None and not site.stub.fault and need is Need.SLOT:
        return (Need.R2,)  # the stub stores r2 in the slot
    foreign = rela.type != REL24
    if site is not None:
        kept = site.stub is None and (
            site.trampoline.marked
            or site.trampoline.is_indirect
            or (calls.module and site.trampoline.by_loader)
        )
        foreign = foreign or not (kept and function.word(at + 4) in NOPS)
    if foreign and need is Need.R2:
        raise _NotShownError(f"r2 may be foreign after the call at +{at:#x}")
    return both
