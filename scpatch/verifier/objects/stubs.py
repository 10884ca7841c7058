"""The stubs and thunks that save r2 for a call, read from the code that their symbols name.

A stub is `std r2,24(r1); b TRAMPOLINE`. A thunk makes the call itself, and branches back:
`std r2,24(r1); bl TRAMPOLINE; ld r2,24(r1); b RETURN`. Nothing is believed from the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scpatch.verifier.objects.read import Place, Symbol
from scpatch.verifier.objects.relocations import REL24
from scpatch.verifier.objects.trampolines import Targets, Trampoline
from scpatch.verifier.objects.variant import BL, LD_R2, STD_R2, B

STUB_NAME = re.compile(r"r2(save|thunk)\.(.+)\.[0-9a-f]{12}", re.DOTALL)
ADDED_NAME = re.compile(r"r2[a-z]+\.(.+\.)?[0-9a-f]{12}", re.DOTALL)
"""The name of whatever code a strategy adds."""
_STUB, _THUNK = (STD_R2, B), (STD_R2, BL, LD_R2)


def unescaped(name: str) -> str:
    """A trampoline's name, from the name of code that was added for it: a linker would read a
    version in what follows an `@`, so that is written `%40` there, and `%` itself `%25`."""
    return re.sub("%(25|40)", lambda match: chr(int(match[1], 16)), name)


@dataclass(frozen=True, slots=True)
class Stub:
    """A stub or thunk. `fault` says what is wrong with it; empty for a good one."""

    symbol: Symbol
    place: Place
    size: int
    trampoline: Trampoline | None
    fault: str

    @property
    def local_entry(self) -> int:
        """The section offset of its only entry."""
        return self.place.offset

    @property
    def thunk(self) -> bool:
        return self.symbol.name.startswith("r2thunk.")

    @property
    def branch(self) -> Place:
        """The stub's own branch to the trampoline."""
        return self.place.after(4)

    @property
    def last(self) -> Place:
        """Its last instruction."""
        return self.place.after(self.size - 4)


def read_stub(code: Targets, symbol: Symbol) -> Stub:
    """Read the instructions that a stub's symbol stands for."""
    place = Place(symbol.section, symbol.value)
    thunk = symbol.name.startswith("r2thunk.")
    size, wanted = (16, _THUNK) if thunk else (8, _STUB)
    entry = code.branches.get(place.after(4))
    reached = code.reached(entry[0]) if entry is not None and entry[0].type == REL24 else None
    fault = ""
    if code.words_at(place, len(wanted)) != wanted or place.offset % 4:
        fault = "its instructions are not those of a stub"
    elif reached is None or reached[1]:
        fault = "its branch does not lead to a trampoline"
    elif sum(len(code.fields_in(place.after(at))) for at in range(0, size, 4)) != 1:
        fault = "a relocation changes its instructions"
    else:
        fault = refused(code, reached[0], thunk)
    return Stub(symbol, place, size, reached[0] if reached else None, fault)


def refused(code: Targets, trampoline: Trampoline, thunk: bool) -> str:
    """Why a linker or the module loader does not accept a stub's branch to `trampoline`; else
    empty."""
    if trampoline.stub_fault and not thunk:
        return trampoline.stub_fault
    if trampoline.marked and not code.module:
        return "no linker accepts a branch without nop to a trampoline with st_other = 1"
    if thunk and code.stub_by_loader(trampoline):
        return "the module loader expects a nop after the call of an undefined trampoline"
    return ""
