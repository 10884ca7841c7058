"""Follows stubs: what is executed between a call and a trampoline.

A stub is code without a function of its own, or a function that a linker or a rewrite has named.
It saves r2, loads an address through the TOC, and branches. Any other instruction ends the path:
then it is no stub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from scpatch.verifier.linked.image import Linked, signed
from scpatch.verifier.objects.read import Place, Symbol
from scpatch.verifier.objects.stubs import STUB_NAME
from scpatch.verifier.objects.trampolines import Trampoline
from scpatch.verifier.objects.variant import BCTR, NOP, STD_R2, B, without_distance

_LINKER_STUB = re.compile(
    r"__(toc_save|long_branch|gep_setup|plt)_.*|[0-9a-f]{8}\.(long_branch|plt_branch|plt_call)(_r2off)?\..*"
)
"""The symbols of stubs: lld's, and GNU ld's with --emit-stub-syms."""
_REACHES = re.compile(
    r"(?:__(?:toc_save|long_branch|gep_setup)_|[0-9a-f]{8}\.(?:long|plt)_branch\.)(.+)"
)
"""The stubs that only extend the reach of a branch, or save r2 as well; and what they lead to."""
_ADDI, _ADDIS, _LD = 14, 15, 58
"""Primary opcodes; extended opcode 0 makes the last one `ld` (Power ISA, D-form and DS-form)."""
_MTCTR, _WITHOUT_REGISTER = 0x7C0903A6, 0xFC1FFFFF
_PREFIX_MASK, _PLA_PREFIX, _PLA_SUFFIX = 0xFFFC0000, 0x06100000, 0x3980
_PC_TO_R11 = (0x7D8802A6, 0x429F0005, 0x7D6802A6, 0x7D8803A6)
"""`mflr r12; bcl 20,31,.+4; mflr r11; mtlr r12`: LR is the caller's again, and r11 the address of
the third instruction. So begin the stubs of callers without a TOC pointer that must not use
instructions of Power10 (build_offset in binutils' bfd/elf64-ppc.c, PPC64R12SetupStub in lld)."""
_LONGEST = 24
"""Instructions: GNU ld's longest stub that saves r2 has eight, and may lead to another."""
_TOC, _COMPUTED = 2, (2, 11, 12)
"""The registers that stubs compute: r2, r11 and r12."""


class StubPath(NamedTuple):
    """How control comes from an address to a trampoline."""

    trampoline: Trampoline
    saves: bool
    """The caller's r2 is stored at 24(r1)."""
    steps: tuple[int, ...] = ()
    """The addresses of the instructions."""
    runs_on: bool = False
    """One of them is a nop that aligns nothing. GNU ld makes a nop of a branch to a weak undefined
    symbol, so control runs on into the next stub."""


def follow(linked: Linked, address: int) -> StubPath | None:
    """The path from an address to a trampoline; None if it leads elsewhere."""
    if address in linked.entries:
        return StubPath(linked.entries[address], saves=False)
    walk = _Walk(linked, address)
    steps: list[int] = []
    while len(steps) < _LONGEST and _is_stub(linked, walk.address):
        steps.append(walk.address)
        if not walk.step():
            return None
        if trampoline := linked.entries.get(walk.address):
            return StubPath(trampoline, walk.saves, tuple(steps), walk.runs_on)
    return None


class Callee(NamedTuple):
    """What a call comes to that is no static call."""

    symbols: Sequence[Symbol]
    """Those of the function."""
    saves: bool
    """A linker's stub on the way stores the caller's r2 at 24(r1)."""
    gets_r2: bool
    """r2 is still the caller's there."""


def find_callee(linked: Linked, address: int) -> Callee | None:
    """What is called at an address, past the stubs of linkers; None if that is not seen, or is a
    trampoline."""
    walk = _Walk(linked, address)
    for _ in range(_LONGEST):
        place, function = linked.place(walk.address), linked.function_at(walk.address)
        if place is None or walk.address in linked.entries:
            return None
        # Functions of hand-written code may have no size.
        symbols = [*linked.starts.get(place, ()), *([] if function is None else [function])]
        if any(not _names_stub(symbol) for symbol in symbols):
            return Callee(symbols, walk.saves, walk.r2_is_callers)
        if not walk.step() or walk.runs_on:
            return None
    return None


def _names_stub(symbol: Symbol) -> bool:
    return any(pattern.fullmatch(symbol.name) for pattern in (STUB_NAME, _LINKER_STUB))


def _is_stub(linked: Linked, address: int) -> bool:
    """Whether an address is in code that belongs to a stub, or to no function."""
    if linked.place(address) is None:
        return False
    function = linked.function_at(address)
    return function is None or _names_stub(function)


def missed(linked: Linked, address: int) -> Trampoline | None:
    """The trampoline that the linker's stub at an address is named for, if it leads elsewhere.

    lld 19 makes such a stub for a trampoline out of reach if bit 15 of the distance from the TOC
    pointer is set: it uses the upper half as it is (#hi), so the stub leads 64 KiB too low.
    """
    stub = linked.function_at(address)
    name = _REACHES.fullmatch(stub.name) if stub is not None else None
    return linked.named.get(name[1]) if name is not None else None


def is_end_of_stub(linked: Linked, place: Place) -> bool:
    """Whether a branch is the end of a stub that nothing seems to call: it follows a save, in code
    that belongs to no function."""
    before = place.after(-4)
    return (
        place.offset >= 4
        and without_distance(linked.word(place)) == B
        and linked.word(before) == STD_R2
        and _is_stub(linked, linked.address(before))
    )


@dataclass(slots=True)
class _Walk:
    """The instructions of stubs, executed one by one."""

    linked: Linked
    address: int
    registers: dict[int, int] = field(default_factory=dict)
    """The values of r2, r11 and r12 that are known."""
    r2_is_callers: bool = True
    saves: bool = False
    ctr: int | None = None
    runs_on: bool = False

    def __post_init__(self) -> None:
        if self.linked.toc is not None:
            self.registers[_TOC] = self.linked.toc

    def step(self) -> bool:
        """Execute one instruction, or four that belong together. False if it is not a stub's."""
        place = self.linked.place(self.address)
        assert place is not None, "the address is in code"
        word, start = self.linked.word(place), self.address
        if word & _PREFIX_MASK == _PLA_PREFIX:
            return self._load_own_address(word, place)
        if word == _PC_TO_R11[0]:
            return self._take_own_address(place)
        self.address += 4
        if word == STD_R2:
            self.saves = self.saves or self.r2_is_callers
        elif without_distance(word) == B:
            self.address = start + signed(word & ~3, 26)
        elif word == BCTR and self.ctr is not None:
            self.address = self.ctr
        elif word & _WITHOUT_REGISTER == _MTCTR:
            self.ctr = self.registers.get(word >> 21 & 31)
        elif word == NOP:
            self.runs_on = self.runs_on or not _aligns(self.linked, place)
        else:
            return self._compute(word)
        return True

    def _load_own_address(self, prefix: int, place: Place) -> bool:
        """`pla r12,distance`, a Power10 instruction of two words. lld makes it in stubs for
        trampolines out of reach (Power ISA, MLS:D-form)."""
        suffix = self.linked.word(place.after(4))
        if suffix >> 16 != _PLA_SUFFIX:
            return False
        distance = signed((prefix & 0x3FFFF) << 16 | suffix & 0xFFFF, 34)
        self.registers[12] = self.address + distance
        self.address += 8
        return True

    def _take_own_address(self, place: Place) -> bool:
        """The four instructions that take the stub's own address without one of Power10."""
        if self.linked.words_at(place, 4) != _PC_TO_R11:
            return False
        self.registers.pop(12, None)
        self.registers[11] = self.address + 8
        self.address += 16
        return True

    def _compute(self, word: int) -> bool:
        """An instruction that computes an address, or r2."""
        opcode, register, base = word >> 26, word >> 21 & 31, word >> 16 & 31
        number, known = signed(word, 16), self.registers.get(base)
        value: int | None
        if opcode in (_ADDI, _ADDIS):
            start = 0 if base == 0 else known
            value = None if start is None else start + (number << 16 * (opcode == _ADDIS))
        elif opcode == _LD and not word & 3 and base:
            value = None if known is None else self.linked.doubleword(known + number)
        else:
            return False
        if register not in _COMPUTED:
            return False
        self.r2_is_callers = self.r2_is_callers and register != _TOC
        self.registers.pop(register, None)
        if value is not None:
            self.registers[register] = value & (1 << 64) - 1
        return True


def _aligns(linked: Linked, place: Place) -> bool:
    """Whether a nop aligns a prefixed instruction to eight bytes, as in GNU ld's stubs
    (build_power10_offset). A branch comes to such a nop, either to the stub that it begins or from
    a caller without a TOC pointer. None comes to what was a branch to a weak undefined symbol."""
    address, after = linked.address(place), linked.word(place.after(4))
    return address % 8 == 4 and after & _PREFIX_MASK == _PLA_PREFIX and address in linked.entered
