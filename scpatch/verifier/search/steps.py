"""What must have held before one instruction so that a need is met after it; see `frame`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

from scpatch.verifier.objects.insn import Effect, Flow, as_store, as_sum, effect, flow, is_padding
from scpatch.verifier.objects.read import Place, Symbol
from scpatch.verifier.objects.relocations import REL24
from scpatch.verifier.objects.variant import NOPS
from scpatch.verifier.search.entries import Entries

_LOCAL_ENTRY = {2: 4, 3: 8, 4: 16, 5: 32, 6: 64}
"""Distance of the local entry point in bytes by st_other bits 5-7 (ELFv2 ABI, st_other)."""
_TO_CTR_OR_TAR = (528, 560)
"""The extended opcodes of `bcctr` and `bctar`."""
_STDU_R1, _HEADER = 0xF821, 32
"""`stdu r1,N(r1)`, upper half; and the bytes of the smallest frame that has a TOC save doubleword
(ELFv2 ABI, stack frame)."""
_PREFIX = 1


class Need(Enum):
    SLOT = auto()
    """24(r1) must hold the function's r2."""
    R2 = auto()
    """r2 must hold the function's r2."""
    FRAME = auto()
    """r1 must point at a frame of the function's own."""


class NotShownError(Exception):
    """Why the search cannot go on."""


@dataclass(frozen=True, eq=False)
class Function:
    """A function's instructions. Offsets are section offsets."""

    entries: Entries
    symbol: Symbol
    end: int
    """Not past the section, whatever the symbol's size is."""

    @property
    def start(self) -> int:
        return self.symbol.value

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

    @cached_property
    def other_store(self) -> int | None:
        """The first store of something else to 24(r1); None without one."""
        places = range(self.start, self.end, 4)
        return next((at for at in places if self.effect(at) is Effect.WRITES_SLOT), None)

    @property
    def local_entry(self) -> int:
        return self.start + _LOCAL_ENTRY.get(self.symbol.other >> 5, 0)

    def place(self, offset: int) -> Place:
        return Place(self.symbol.section, offset)

    def word(self, offset: int) -> int:
        return self.entries.calls.word(self.place(offset))

    def effect(self, offset: int) -> Effect:
        """What the instruction does, if it is what its word says."""
        if self.entries.changes.may_save(self.place(offset)):
            return Effect.SAVE
        does = effect(self.word(offset))
        if does in (Effect.NONE, Effect.WRITES_R2) and self._stores_by_them(offset):
            return Effect.WRITES_SLOT if does is Effect.NONE else Effect.UNKNOWN
        return does

    @cached_property
    def frame_registers(self) -> dict[str, set[int | None]]:
        """The registers that some instruction sets from r1, with the bytes that it adds, None for
        what is not read; and those that one of these is moved to. Each may hold that wherever the
        function uses it."""
        found: dict[str, set[int | None]] = {}
        moved: dict[str, set[str]] = {}
        for at in range(self.start, self.end, 4):
            one = as_sum(self.word(at))
            if one is None or one.register == "r1":
                continue
            prefixed = at > self.start and self.word(at - 4) >> 26 == _PREFIX
            if one.source == "r1":
                found.setdefault(one.register, set()).add(None if prefixed else one.distance)
            elif not one.distance and not prefixed:
                moved.setdefault(one.source, set()).add(one.register)
        work = list(found)
        for source in work:  # grows
            for to in moved.get(source, ()):
                if not found[source] <= found.setdefault(to, set()):
                    found[to] |= found[source]
                    work.append(to)
        return found

    def _stores_by_them(self, offset: int) -> bool:
        """Whether an instruction may store in 24(r1) by one of `frame_registers`."""
        store = as_store(self.word(offset))
        if store is None:
            return False
        by = self.frame_registers.keys() & set(store.registers)
        distances = [one for register in by for one in self.frame_registers[register]]
        return any(one is None or store.may_reach_slot(one) for one in distances)

    def unsure(self, offset: int) -> bool:
        return self.entries.changes.unsure(self.place(offset))

    def passes_on(self, offset: int) -> bool:
        """Whether control may go on from an instruction to the next."""
        word = self.word(offset)
        if word == 0:
            # No instruction, but in the second half of a prefixed one.
            return self.unsure(offset) or self.word(offset - 4) >> 26 == _PREFIX
        return flow(word) not in (Flow.JUMP, Flow.LEAVES) or self.unsure(offset)

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
                raise NotShownError(f"{where} branches into the function at +{offset:#x}")
            came = True
            yield source.offset
        if reason := self.entries.perhaps_from_elsewhere(self.place(offset)):
            raise NotShownError(f"control may come to +{offset:#x} from elsewhere: {reason}")
        if self.passes_on(offset - 4):
            came = True
            yield offset - 4
        if not came and not is_padding(self.word(offset)) and not self.jumps:
            raise NotShownError(f"nothing is seen to lead to +{offset:#x}")

    def saves(self, at: int) -> bool:
        """Whether the instruction at `at` saves r2, by itself or as the call of a stub."""
        calls, place = self.entries.calls, self.place(at)
        if self.unsure(at):
            return False
        site = calls.sites.get(place)
        by_stub = site is not None and site.stub is not None
        return by_stub or calls.by_loader(place) or self.effect(at) is Effect.SAVE


def at_entry(function: Function, offset: int, need: Need) -> None:
    """A need at the function's entry point."""
    if need is Need.SLOT:
        raise NotShownError("a path leads from the function's entry to the call without a save")
    if need is Need.FRAME:
        raise NotShownError("a path leads from the function's entry there without a frame")
    for source in function.entries.into(function.place(offset)):
        # A loop back to the entry, not a call of it: r2 need not be the entry's any more.
        if source.section == function.symbol.section and (
            function.start <= source.offset < function.end
            and flow(function.word(source.offset)) is not Flow.CALL
        ):
            raise NotShownError("the function branches back to its own entry")


def step(function: Function, at: int, need: Need) -> Iterable[Need]:
    """What must hold before the instruction at `at` so that `need` holds after it."""
    if reason := function.entries.changes.unknown(function.place(at)):
        raise NotShownError(f"the instruction at +{at:#x} {reason}")
    needs = _as_it_says(function, at, need)
    if not function.unsure(at) or _goes_with_its_call(function, at):
        return needs
    # What may be a nop changes nothing: what is needed after it is needed before it as well.
    return {*needs, need}


def _goes_with_its_call(function: Function, at: int) -> bool:
    """Whether the instruction restores r2 after a static call, and is there if that is. Without
    both r2 is what it was before the call, where it must be right for the call, too."""
    call = function.place(at - 4)
    whole = function.entries.changes.with_the_one_before(function.place(at))
    return whole and function.effect(at) is Effect.RESTORE and call in function.entries.calls.sites


def _as_it_says(function: Function, at: int, need: Need) -> Iterable[Need]:
    kind = flow(function.word(at))
    if need is Need.FRAME:
        return _frame(function, at, kind)
    if kind is Flow.CALL:
        return _call(function, at, need)
    if kind is Flow.INDIRECT_CALL:
        if need is Need.R2:
            raise NotShownError(f"r2 is foreign after the indirect call at +{at:#x}")
        return (Need.SLOT,)
    site = function.entries.calls.sites.get(function.place(at))
    if site is not None and site.stub is not None and site.stub.thunk:
        return (Need.R2,)  # what it saves it restores
    does = function.effect(at)
    if does is Effect.UNKNOWN:
        raise NotShownError(f"the instruction at +{at:#x} is unknown")
    if need is Need.SLOT:
        if does is Effect.SAVE:
            return (Need.R2,)
        if does in (Effect.MOVES_R1, Effect.WRITES_SLOT):
            what = "r1 changes" if does is Effect.MOVES_R1 else "another value may go to 24(r1)"
            raise NotShownError(f"{what} at +{at:#x}")
        return (Need.SLOT,)
    if does is Effect.RESTORE:
        return (Need.SLOT,)
    if does is Effect.WRITES_R2:
        raise NotShownError(f"r2 is written at +{at:#x}")
    return (Need.R2,)


def _frame(function: Function, at: int, kind: Flow) -> Iterable[Need]:
    """What must hold before an instruction so that the frame behind it is the function's own."""
    if kind is not Flow.NEXT:
        return (Need.FRAME,)
    does, word = function.effect(at), function.word(at)
    if does is Effect.UNKNOWN:
        raise NotShownError(f"the instruction at +{at:#x} is unknown")
    if does is not Effect.MOVES_R1:
        return (Need.FRAME,)
    if word >> 16 == _STDU_R1 and word & 3 == 1 and 0x8000 <= word & 0xFFFC <= 0x10000 - _HEADER:
        return ()
    raise NotShownError(f"r1 changes at +{at:#x}")


def _call(function: Function, at: int, need: Need) -> Iterable[Need]:
    """A direct call. A linker's stub may store r2 in the slot on the way, so both must hold."""
    calls = function.entries.calls
    both = (Need.SLOT, Need.R2) if need is Need.SLOT else (Need.R2,)
    if calls.by_loader(function.place(at)):
        return (Need.R2,)  # its stub stores r2, and the nop becomes the restore
    entry = calls.branches.get(function.place(at))
    site = calls.sites.get(function.place(at))
    if site is None and entry is None:
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
            or calls.stub_by_loader(site.trampoline)
        )
        foreign = foreign or not (kept and function.word(at + 4) in NOPS)
    if foreign and need is Need.R2:
        raise NotShownError(f"r2 may be foreign after the call at +{at:#x}")
    return both
