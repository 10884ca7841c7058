"""Follows stubs: what is executed between a call and a trampoline. Decoded by capstone.

A stub is code without a function of its own, or one that a linker or scpatch has named. It stores
r2, loads an address by way of the TOC, branches; anything else ends the path, as it is no stub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from scpatch.verifier.linked.image import Linked
from scpatch.verifier.objects.insn import decode
from scpatch.verifier.objects.read import Place
from scpatch.verifier.objects.stubs import STUB_NAME
from scpatch.verifier.objects.trampolines import Trampoline

LINKER_STUB = re.compile(
    r"__(toc_save|long_branch|gep_setup|plt)_.*|[0-9a-f]{8}\.(long_branch|plt_branch|plt_call)(_r2off)?\..*"
)
"""The symbols of stubs: lld's, and GNU ld's with --emit-stub-syms."""
_REACHES = re.compile(
    r"(?:__(?:toc_save|long_branch|gep_setup)_|[0-9a-f]{8}\.(?:long|plt)_branch\.)(.+)"
)
"""Those that do nothing but reach, or save r2 as well, and the name of what they lead to."""
_NUMBER = r"(-?(?:0x)?[0-9a-f]+)"
_SAVE = "std r2, 0x18(r1)"
_STD_R2 = 0xF8410018
_BRANCH = re.compile(rf"b {_NUMBER}")
_ADD = re.compile(rf"(addis|addi) (r\d+), (r\d+), {_NUMBER}")
_SET = re.compile(rf"(lis|li) (r\d+), {_NUMBER}")
_LOAD = re.compile(rf"ld (r\d+), {_NUMBER}\((r\d+)\)")
_TO_CTR = re.compile(r"mtctr (r\d+)")
_PREFIX_MASK, _PLA_PREFIX, _PLA_SUFFIX = 0xFFFC0000, 0x06100000, 0x3980
_PC_TO_R11 = (0x7D8802A6, 0x429F0005, 0x7D6802A6, 0x7D8803A6)
"""`mflr r12; bcl 20,31,.+4; mflr r11; mtlr r12`: LR is the caller's again, and r11 the address of
the third instruction. So begin the stubs of callers without a TOC pointer, where no instruction of
Power10 may be used (build_offset in binutils' bfd/elf64-ppc.c, PPC64R12SetupStub in lld)."""
_LONGEST = 24
"""Instructions: GNU ld's longest stub that saves r2 has eight, and may lead to another."""


@dataclass(frozen=True, slots=True)
class Way:
    """How control comes from an address to a trampoline, and what happens on the way."""

    trampoline: Trampoline
    saves: bool
    """r2, as the caller had it, is stored in 24(r1)."""
    steps: tuple[int, ...] = ()
    """The addresses of the instructions."""
    runs_on: bool = False
    """A nop is among them that aligns nothing. Of a branch to a weak undefined symbol GNU ld makes
    one, so that control runs on into the next stub."""


@dataclass(slots=True)
class _State:
    address: int
    registers: dict[str, int] = field(default_factory=dict)
    r2_is_callers: bool = True
    saves: bool = False
    ctr: int | None = None
    runs_on: bool = False


def follow(linked: Linked, address: int) -> Way | None:
    """The way from an address to a trampoline; None where it leads elsewhere."""
    if one := linked.entries.get(address):
        return Way(one, saves=False)
    state = _State(address)
    if linked.toc is not None:
        state.registers["r2"] = linked.toc
    steps: list[int] = []
    while len(steps) < _LONGEST and _is_stub(linked, state.address):
        steps.append(state.address)
        if not _step(linked, state):
            return None
        if one := linked.entries.get(state.address):
            return Way(one, state.saves, tuple(steps), state.runs_on)
    return None


def _is_stub(linked: Linked, address: int) -> bool:
    """Whether an address is in code that no function's symbol claims but a stub's."""
    place = linked.place(address)
    if place is None:
        return False
    function = linked.image.function_at(place)
    if function is None or STUB_NAME.fullmatch(function.name):
        return True
    return bool(LINKER_STUB.fullmatch(function.name))


def missed(linked: Linked, address: int) -> Trampoline | None:
    """The trampoline that the linker's stub at an address is named for, where it leads elsewhere.

    So does lld 19's for a trampoline out of reach, where bit 15 of the distance from the TOC
    pointer is set: it takes the upper half as it is (#hi), and comes out 64 KiB lower.
    """
    place = linked.place(address)
    stub = linked.image.function_at(place) if place is not None else None
    name = _REACHES.fullmatch(stub.name) if stub is not None else None
    return linked.named.get(name[1]) if name is not None else None


def _step(linked: Linked, state: _State) -> bool:
    """One instruction; false where it is none of a stub."""
    place = linked.place(state.address)
    assert place is not None, "the address is in code"
    word = linked.calls.word(place)
    if word & _PREFIX_MASK == _PLA_PREFIX:
        return _loads_own_address(linked, state, word, place)
    if word == _PC_TO_R11[0]:
        return _takes_own_address(linked, state, place)
    text = decode(word, state.address)
    if text == "nop":
        state.runs_on = state.runs_on or not _aligns(linked, place)
    state.address += 4
    if text == _SAVE:
        state.saves = state.saves or state.r2_is_callers
        return True
    if match := _BRANCH.fullmatch(text):
        state.address = int(match[1], 0)
        return True
    if text == "bctr" and state.ctr is not None:
        state.address = state.ctr
        return True
    if match := _TO_CTR.fullmatch(text):
        state.ctr = state.registers.get(match[1])
        return True
    return text == "nop" or _computes(linked, state, text)


def _loads_own_address(linked: Linked, state: _State, prefix: int, place: Place) -> bool:
    """`pla r12,distance`, an instruction of Power10 of two words, which capstone does not know. lld
    makes it in stubs for trampolines out of reach (Power ISA, MLS:D-form)."""
    suffix = linked.calls.word(Place(place.section, place.offset + 4))
    if suffix >> 16 != _PLA_SUFFIX:
        return False
    distance = (prefix & 0x3FFFF) << 16 | suffix & 0xFFFF
    distance -= distance >> 33 << 34
    state.registers["r12"] = state.address + distance
    state.address += 8
    return True


def _takes_own_address(linked: Linked, state: _State, place: Place) -> bool:
    """The four instructions that take the stub's own address without one of Power10."""
    found = (linked.calls.word(Place(place.section, place.offset + at)) for at in range(0, 16, 4))
    if tuple(found) != _PC_TO_R11:
        return False
    state.registers.pop("r12", None)
    state.registers["r11"] = state.address + 8
    state.address += 16
    return True


def _aligns(linked: Linked, place: Place) -> bool:
    """Whether a nop is there to align a prefixed instruction to eight bytes, as GNU ld does
    (build_power10_offset). A stub begins with it, or has a caller without a TOC pointer that begins
    there: a branch comes to it, as none does to what was a branch to a weak undefined symbol."""
    address = linked.address(place)
    after = linked.calls.word(Place(place.section, place.offset + 4))
    return address % 8 == 4 and after & _PREFIX_MASK == _PLA_PREFIX and address in linked.entered


def _computes(linked: Linked, state: _State, text: str) -> bool:
    """An instruction that computes an address, or r2."""
    value: int | None
    if match := _ADD.fullmatch(text):
        name, known = match[2], state.registers.get(match[3])
        value = None if known is None else known + _shifted(match[1], match[4])
    elif match := _SET.fullmatch(text):
        name, value = match[2], _shifted(match[1], match[3])
    elif match := _LOAD.fullmatch(text):
        name, known = match[1], state.registers.get(match[3])
        value = None if known is None else linked.doubleword(known + int(match[2], 0))
    else:
        return False
    if name not in ("r2", "r11", "r12"):
        return False
    state.r2_is_callers = state.r2_is_callers and name != "r2"
    state.registers.pop(name, None)
    if value is not None:
        state.registers[name] = value & (1 << 64) - 1
    return True


def _shifted(name: str, number: str) -> int:
    """The number that an instruction adds or sets; capstone prints those of `addis` unsigned."""
    value = int(number, 0)
    if name not in ("addis", "lis"):
        return value
    value &= 0xFFFF
    return (value - (value >> 15 << 16)) << 16


def is_between(linked: Linked, place: Place) -> bool:
    """Whether a branch is the end of a stub that nothing seems to call: it follows a save, in code
    that belongs to no function."""
    before = Place(place.section, place.offset - 4)
    return (
        linked.calls.word(place) & 0xFC000003 == 0x48000000
        and place.offset >= 4
        and linked.calls.word(before) == _STD_R2
        and _is_stub(linked, linked.address(before))
    )
