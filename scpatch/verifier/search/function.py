"""The instructions of one function, what each does, and where control comes from to it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from scpatch.verifier.objects.insn import (
    CallEffect,
    Effect,
    Flow,
    as_store,
    as_sum,
    effect,
    flow,
    is_padding,
)
from scpatch.verifier.objects.read import Place, Symbol, as_place
from scpatch.verifier.objects.variant import LOCAL_ENTRY
from scpatch.verifier.search.entries import Entries

_TO_CTR_OR_TAR = (528, 560)
"""The extended opcodes of `bcctr` and `bctar`."""
_PREFIX = 1


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
        return self.start + LOCAL_ENTRY[self.symbol.other >> 5]

    def place(self, offset: int) -> Place:
        return as_place((self.symbol.section, offset))

    @cached_property
    def _words(self) -> array[int]:
        return self.entries.calls.words(self.symbol.section)

    def word(self, offset: int) -> int:
        at = offset // 4
        return self._words[at] if 0 <= at < len(self._words) else 0

    def effect(self, offset: int) -> Effect:
        """What the instruction does, if it is what its word says."""
        if offset not in self._effects:
            self._effects[offset] = self._read_effect(offset)
        return self._effects[offset]

    @cached_property
    def _effects(self) -> dict[int, Effect]:
        return {}

    def _read_effect(self, offset: int) -> Effect:
        if self.entries.changes.may_save(self.place(offset)):
            return Effect.SAVE
        does = effect(self.word(offset))
        if does in (Effect.NONE, Effect.WRITES_R2) and self._stores_by_them(offset):
            return Effect.WRITES_SLOT if does is Effect.NONE else Effect.UNKNOWN
        return does

    @cached_property
    def frame_registers(self) -> dict[str, set[int | None]]:
        """The registers that an instruction sets from r1, with the bytes that it adds (None:
        unknown), and the registers that these are copied to. Each may hold that value wherever the
        function uses it."""
        distances: dict[str, set[int | None]] = {}
        moved: dict[str, set[str]] = {}
        for at in range(self.start, self.end, 4):
            total = as_sum(self.word(at))
            if total is None or total.register == "r1":
                continue
            prefixed = at > self.start and self.word(at - 4) >> 26 == _PREFIX
            if total.source == "r1":
                distances.setdefault(total.register, set()).add(
                    None if prefixed else total.distance
                )
            elif not total.distance and not prefixed:
                moved.setdefault(total.source, set()).add(total.register)
        work = list(distances)
        for source in work:  # grows
            for to in moved.get(source, ()):
                if not distances[source] <= distances.setdefault(to, set()):
                    distances[to] |= distances[source]
                    work.append(to)
        return distances

    def _stores_by_them(self, offset: int) -> bool:
        """Whether an instruction may store in 24(r1) through one of `frame_registers`."""
        store = as_store(self.word(offset))
        if store is None:
            return False
        registers = self.frame_registers.keys() & set(store.registers)
        distances = (to for register in registers for to in self.frame_registers[register])
        return any(to is None or store.may_reach_slot(to) for to in distances)

    def unsure(self, offset: int) -> bool:
        return self.entries.changes.unsure(self.place(offset))

    def passes_on(self, offset: int) -> bool:
        """Whether control may go on from an instruction to the next."""
        word = self.word(offset)
        if word == 0:
            # No instruction, but in the second half of a prefixed one.
            return self.unsure(offset) or self.word(offset - 4) >> 26 == _PREFIX
        return flow(word) not in (Flow.JUMP, Flow.LEAVES) or self.unsure(offset)

    def before(self, offset: int) -> Iterator[int]:
        """The instructions of this function that control may come from to `offset`."""
        came = False
        for source in self.entries.into(self.place(offset)):
            if source == self.entries.calls.thunk_return(self.place(offset)):
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
        if self.unsure(at):
            return False
        call = self.entries.calls.call_effect(self.place(at))
        saving = CallEffect.SAVES, CallEffect.SAVES_AND_RESTORES
        return call in saving or self.effect(at) is Effect.SAVE
