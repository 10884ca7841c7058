"""What an instruction that is no branch may do to r1, to r2, and to the doubleword at 24(r1).

Read from the instruction's fields, and conservatively: an instruction is taken to write r1 or r2
wherever a field that can be a destination names it, unless it is known to only read that field.
Most instructions name neither, and are done with one look.

This is the rewriter's own decoder: it starts in no time, where importing a disassembler would
cost each run several times what the rest takes. `verify` judges the same code by capstone, so that
a mistake here does not go unnoticed there.

Source: Power ISA 3.1, Book I, instruction formats (D, DS, DQ, X, XO, M, MD) and appendix F (opcode
maps).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from scpatch.ppc64.variant import VARIANT


class Effects(NamedTuple):
    """What may have changed behind an instruction."""

    r1: bool
    r2: bool
    save: bool
    """The doubleword at 24(r1) may have been stored over."""


NONE: Final = Effects(r1=False, r2=False, save=False)
ANY: Final = Effects(r1=True, r2=True, save=True)

_LOADS: Final = frozenset({32, 34, 40, 42})  # lwz, lbz, lhz, lha: write RT
_LOADS_UPDATE: Final = frozenset({33, 35, 41, 43})  # write RT and RA
_FLOAT: Final = frozenset({48, 50, 57, 59, 63})  # lfs, lfd, lxsd, arithmetic: write no GPR
_UPDATE_ONLY: Final = frozenset({37, 39, 45, 49, 51, 53, 55})  # stwu, lfsu, stfsu...: write RA
_STORES: Final = {36: 4, 38: 1, 44: 2, 52: 4, 54: 8, 61: 16, 62: 16}  # opcode -> most bytes
_ADD_IMMEDIATE: Final = frozenset({7, 8, 12, 13, 14, 15})  # write RT, read RA
_COMPARE_TRAP: Final = frozenset({2, 3, 10, 11, 17})  # tdi, twi, cmpli, cmpi, sc: write no GPR
_LOGICAL: Final = frozenset({20, 21, 23, 24, 25, 26, 27, 28, 29, 30})  # write RA, read RS
_VECTOR: Final = frozenset({4, 60})  # some write a GPR in the place of RT
_CONDITION: Final = 19  # works on CR fields, but for addpcis
_ADDPCIS: Final = 2
_EXTENDED: Final = 31
_MULTIPLE: Final = frozenset({1, 46, 47, 56, 6})  # prefix, lmw, stmw, lq, lxvp and stxvp
_KNOWN: Final = (
    frozenset({_CONDITION, 58})
    | _LOADS
    | _LOADS_UPDATE
    | _FLOAT
    | _UPDATE_ONLY
    | _ADD_IMMEDIATE
    | _COMPARE_TRAP
    | _LOGICAL
    | _VECTOR
)
"""Change what `rt` and `ra` name at most, with the stores left out."""

_ARITHMETIC: Final = frozenset(
    {266, 10, 138, 234, 202, 40, 8, 136, 232, 200, 104, 235, 75, 11, 233, 73, 9, 491, 459, 489, 457}
    | {393, 395, 425, 427}
)
"""add, addc, adde, addme, addze, subf, divde... (XO-form, the OE bit masked out): write RT."""
_WRITES_RT: Final = frozenset(
    {23, 87, 279, 343, 21, 341, 20, 84, 52, 116, 790, 534, 532, 339, 755}
    | {19, 83, 128, 170, 265, 267, 371, 777, 779, 789, 821, 853, 885, 851, 915, 979}
)
"""lwzx, lbzx, lhzx, lhax, ldx, lwax, lwarx, ldarx, lwzcix... without update, mfspr, darn, mfcr,
mfmsr, setb, addex, modsd, mftb, slbmfev, slbfee...: write RT."""
_LOGICAL_X: Final = frozenset(
    {28, 60, 124, 284, 316, 412, 444, 476, 24, 536, 792, 824, 27, 539, 794, 826, 827}
    | {954, 922, 986, 26, 58, 506, 378, 538, 570, 890, 891}
    | {51, 115, 307, 122, 154, 186, 252, 282, 314, 508}
)
"""and, andc, nor, eqv, xor, orc, or, nand, slw, srw, sraw, sld, extsb, cntlzw, mfvsrd, popcntb,
prtyw, bpermd, cmpb...: write RA."""
_LOADS_UPDATE_X: Final = frozenset({53, 55, 119, 311, 373, 375, 567, 631})
"""ldux, lwzux, lbzux, lhzux, lwaux, lhaux write RT and RA; lfsux and lfdux only RA."""
_INDEXED_STORES: Final = frozenset(
    {151, 215, 407, 149, 662, 918, 660, 150, 214, 694, 726, 663, 727, 983, 135, 167, 199, 231, 487}
    | {972, 908, 716, 652, 396, 140, 940, 1004, 909, 941, 397, 429, 1014, 1013, 917, 949, 981}
)
"""stwx, stbx, sthx, stdx, stwcx., stdcx., stfdx, stvx, stxvd2x..., dcbz: read RS and RA."""
_INDEXED_UPDATES: Final = frozenset({183, 247, 439, 181, 695, 759})
"""stwux, stbux, sthux, stdux, stfsux, stfdux: write RA as well."""
_READ_ONLY: Final = frozenset(
    {0, 30, 32, 4, 68, 467, 144, 146, 178, 86, 54, 278, 246, 982, 598, 854}
    | {103, 359, 7, 39, 71, 535, 599, 855, 887, 844, 780, 588, 876, 812, 268, 76, 12, 6, 38}
    | {269, 301, 332, 364, 524, 781, 813, 179, 211, 243, 403, 435, 22, 470, 576}
    | {206, 238, 274, 306, 338, 402, 434, 466, 498, 566, 822, 838, 886}
)
"""cmp, cmpl, wait, tw, td, mtspr, mtcrf, mtmsr, mtmsrd, dcbf, dcbst, dcbt, dcbtst, icbi, sync,
eieio, tlbie, slbmte, slbia, msgsnd...; the indexed loads of vector and float registers: lvx, lfsx,
lxvd2x...; and what moves a general register to one of these: mtvsrd..."""
_STRING: Final = frozenset({533, 597, 661, 725, 276})
"""lswx, lswi, stswx, stswi, lqarx: several registers, or many bytes."""
_OR, _ISEL = 444, 15


def effects(word: int) -> Effects:
    """What the instruction `word`, no branch, may change."""
    opcode, rt, ra = word >> 26, word >> 21 & 31, word >> 16 & 31
    if opcode in _MULTIPLE:
        return ANY
    if opcode == _EXTENDED:
        return _extended(word, rt, ra)
    if opcode in _STORES:
        return _store(word, opcode, ra)
    if rt not in (1, 2) and ra not in (1, 2):
        return NONE if opcode in _KNOWN else ANY
    if opcode in _COMPARE_TRAP or opcode in _FLOAT:
        return NONE
    if opcode == _CONDITION:
        return _writes(rt) if word >> 1 & 31 == _ADDPCIS else NONE
    if opcode in _LOGICAL:
        return NONE if opcode == 24 and rt == ra and not word & 0xFFFF else _writes(ra)
    if opcode in _UPDATE_ONLY:
        return _writes(ra)
    if opcode in _LOADS_UPDATE or (opcode == 58 and word & 3 == 1):
        return _writes(rt, ra)
    if opcode in _LOADS or opcode in _ADD_IMMEDIATE or opcode in _VECTOR or opcode == 58:
        return _writes(rt)
    return ANY


def _store(word: int, opcode: int, ra: int) -> Effects:
    """A store with a displacement: D-form, DS-form (std, stdu, stq) or DQ-form (stxv)."""
    if opcode == 62 and word & 3 == 1:  # stdu
        return _writes(ra)
    if opcode == 62 and word & 2:  # stq, and what is unknown
        return ANY
    if ra != 1:
        return NONE
    offset, size = stored(word)
    return Effects(r1=False, r2=False, save=-size < offset - VARIANT.toc_save < 8 and size > 0)


def stored(word: int) -> tuple[int, int]:
    """Displacement and most bytes of a store with a displacement that changes no register; no bytes
    for anything else."""
    opcode = word >> 26
    if opcode not in _STORES or (opcode == 62 and word & 3 == 1):
        return 0, 0
    if opcode == 61 and word & 7 == 1:  # lxv, the one load among them
        return 0, 0
    mask = {62: 0xFFFC, 61: 0xFFF0 if word & 7 == 5 else 0xFFFC}.get(opcode, 0xFFFF)
    return signed(word & mask), 8 if opcode == 62 and word & 3 == 0 else _STORES[opcode]


def signed(displacement: int) -> int:
    """The value of a field of 16 bits."""
    return displacement - 0x10000 if displacement & 0x8000 else displacement


def is_indexed_store(word: int) -> bool:
    """Whether it stores where the sum of two registers leads, with update or without."""
    return word >> 26 == _EXTENDED and word >> 1 & 0x3FF in _INDEXED_STORES | _INDEXED_UPDATES


def _extended(word: int, rt: int, ra: int) -> Effects:
    """Primary opcode 31: what is not known may do anything."""
    xo, rb = word >> 1 & 0x3FF, word >> 11 & 31
    if xo in _STRING:
        return ANY
    if not _is_known(xo):
        return ANY
    if xo in _INDEXED_STORES:
        # The other address register holds anything; with r1 it may point at the doubleword.
        return NONE._replace(save=1 in (ra, rb))
    if xo in _INDEXED_UPDATES:
        return _writes(ra)._replace(save=1 in (ra, rb))
    if xo in _READ_ONLY or (xo == _OR and rt == ra == rb):
        return NONE
    if xo in _LOGICAL_X:
        return _writes(ra)
    if xo in _WRITES_RT or xo & 0x1FF in _ARITHMETIC or xo & 31 == _ISEL:
        return _writes(rt)
    return _writes(rt, ra)


def _is_known(xo: int) -> bool:
    return (
        xo in _INDEXED_STORES
        or xo in _INDEXED_UPDATES
        or xo in _LOADS_UPDATE_X
        or xo in _LOGICAL_X
        or xo in _WRITES_RT
        or xo in _READ_ONLY
        or xo & 0x1FF in _ARITHMETIC
        or xo & 31 == _ISEL
    )


def _writes(*registers: int) -> Effects:
    return Effects(r1=1 in registers, r2=2 in registers, save=False)
