"""Instruction words: the few that scpatch looks for, and the fields of branches.

Words are 32-bit values, as in a listing; offsets are section offsets in bytes. Those that depend on
the ABI are in `variant`.

Source: Power ISA, Book I.
"""

from __future__ import annotations

from typing import Final

B: Final = 0x48000000
BL: Final = 0x48000001
NOP: Final = 0x60000000
_XNOP: Final = 0x68000000
"""`xori 0,0,0`"""
_LD_R2_R13: Final = 0xE84D0000
"""`ld r2,0(r13)`: DS-form, with the offset in bits 16-29 and two zeros."""

NOPS: Final = frozenset({NOP, 0x4DEF7B82, 0x4FFFFB82})
"""`nop`, `cror 15,15,15`, `cror 31,31,31`: what GNU ld takes for the nop after a call
(ppc64_elf_relocate_section)."""

_FRAME_HEADER: Final = 32
_BRANCH_REACH: Final = 1 << 25
"""An I-form branch reaches from -32 MiB up to 32 MiB - 4."""
_I_FORM, _B_FORM, _XL_FORM = 18, 16, 19
_BCLR, _BCCTR, _BCTAR = 16, 528, 560
_RETURN_FROM_INTERRUPT = frozenset({18, 50, 82, 274})  # rfid, rfi, rfscv, hrfid


def is_branch(word: int) -> bool:
    """`b`, `bl`, `ba`, `bla`: an I-form branch."""
    return word >> 26 == _I_FORM


def links(word: int) -> bool:
    """The LK bit: whether a branch leaves a return address in LR."""
    return bool(word & 1)


def is_absolute(word: int) -> bool:
    """The AA bit of an I-form or B-form branch."""
    return bool(word & 2)


def ld_r2_from_r13(offset: int) -> int:
    """`ld r2,offset(r13)`, for an offset that fits the DS-form."""
    return _LD_R2_R13 | offset


def r13_offset(word: int) -> int | None:
    """The offset of an `ld r2,offset(r13)`, in bytes; None for anything else."""
    return signed(word & 0xFFFC, 16) if word & 0xFFFF0003 == _LD_R2_R13 else None


def in_branch_reach(distance: int) -> bool:
    """Whether an I-form branch (`b`, `bl`) reaches over `distance` bytes."""
    return -_BRANCH_REACH <= distance < _BRANCH_REACH


def is_prefix(word: int) -> bool:
    """The first word of a Power10 prefixed instruction of eight bytes."""
    return word >> 26 == 1


def direct_target(word: int, offset: int) -> int | None:
    """Where a relative branch at `offset` goes; None for anything else."""
    if is_absolute(word):
        return None
    if is_branch(word):
        return offset + signed(word & 0x3FFFFFC, 26)
    if word >> 26 == _B_FORM:
        return offset + signed(word & 0xFFFC, 16)
    return None


def is_indirect(word: int) -> bool:
    """A branch through LR, CTR or TAR."""
    return word >> 26 == _XL_FORM and (word >> 1) & 0x3FF in (_BCLR, _BCCTR, _BCTAR)


def is_through_lr(word: int) -> bool:
    return word >> 26 == _XL_FORM and (word >> 1) & 0x3FF == _BCLR


def transfers(word: int) -> bool:
    """Whether the word is a branch of any kind, or a return from an interrupt."""
    form = word >> 26
    if form == _XL_FORM:
        return is_indirect(word) or _is_rfi(word)
    return form in (_I_FORM, _B_FORM)


def falls_through(word: int) -> bool:
    """Whether control can go on at the next word, also when a call returns."""
    if is_branch(word):
        return links(word)
    if word >> 26 == _B_FORM or is_indirect(word):
        always = (word >> 21) & 0b10100 == 0b10100
        return links(word) or not always
    return not _is_rfi(word)


def is_padding(word: int) -> bool:
    """What fills the space before a label that nothing runs into: the nops that compilers pad with,
    `ori N,N,0` and `xori 0,0,0`, and zero, which clang puts after a branch."""
    register = (word >> 21) & 31
    return word in (0, _XNOP) or word == NOP | register << 21 | register << 16


def pushes(word: int) -> bool:
    """Whether the word is `stdu r1,-N(r1)`, with N large enough for a frame that has a TOC save
    doubleword (psABI, stack frame)."""
    return word & 0xFFFF8003 == 0xF8218001 and 0x10000 - (word & 0xFFFC) >= _FRAME_HEADER


def base_is_r1(word: int) -> bool:
    """Whether the RA field is r1: the base register of a load or store."""
    return word >> 16 & 31 == 1


def signed(value: int, bits: int) -> int:
    """The value of a field of so many bits."""
    return value - (1 << bits) if value >> (bits - 1) else value


def _is_rfi(word: int) -> bool:
    return word >> 26 == _XL_FORM and (word >> 1) & 0x3FF in _RETURN_FROM_INTERRUPT
