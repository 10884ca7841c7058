"""What an instruction that is no branch may do to r1, to r2, and to the doubleword at 24(r1).

Read from the instruction's fields, and conservatively: a field that can be a destination is taken
for one, unless the instruction is known to only read it. An unknown instruction may do anything.

This is the rewriter's own decoder. It starts in no time: importing a disassembler would cost each
run several times what the rest takes. `verify` judges the same code by capstone, so that a mistake
here does not go unnoticed there.

Source: Power ISA 3.1, Book I, instruction formats (D, DS, DQ, X, XO, M, MD) and appendix F (opcode
maps).
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final, NamedTuple

from scpatch.ppc64.insn import signed
from scpatch.ppc64.variant import TOC_SAVE


class Effects(NamedTuple):
    """What an instruction may change."""

    r1: bool
    r2: bool
    save: bool
    """The doubleword at 24(r1)."""


NONE: Final = Effects(r1=False, r2=False, save=False)
ANY: Final = Effects(r1=True, r2=True, save=True)


class Store(NamedTuple):
    """Where a store writes."""

    displacement: int
    """Bytes from the base register; 0 with an index register."""
    size: int
    """The most bytes that it writes."""
    updates: bool
    """It also sets the base register to the address."""
    is_indexed: bool
    """The address is the sum of two registers."""


_RT, _RA = 1, 2
"""Register fields that an instruction may write: a set of bits."""

_LOADS, _EXTENDED, _CR_LOGICAL, _ORI = 58, 31, 19, 24
_ADDPCIS, _OR, _SYSTEM_CALL = 2, 444, 17

_PRIMARY: Final[Mapping[int, int]] = {
    **dict.fromkeys((2, 3, 10, 11), 0),  # tdi, twi, cmpli, cmpi
    **dict.fromkeys((_CR_LOGICAL, 48, 50, 57, 59, 63), 0),  # lfs, lfd, lxsd, float arithmetic
    **dict.fromkeys((32, 34, 40, 42, _LOADS), _RT),  # lwz, lbz, lhz, lha, ld
    **dict.fromkeys((33, 35, 41, 43), _RT | _RA),  # lwzu, lbzu, lhzu, lhau
    **dict.fromkeys((49, 51), _RA),  # lfsu, lfdu
    **dict.fromkeys((7, 8, 12, 13, 14, 15), _RT),  # mulli, subfic, addic, addi, addis
    **dict.fromkeys((20, 21, 23, _ORI, *range(25, 31)), _RA),  # rlwinm, ori, xori, andi., rldicl
    **dict.fromkeys((4, 60), _RT),  # vectors: some write a GPR in the place of RT
}
"""Primary opcode -> fields, of all but the stores. Opcodes that write several registers, and
prefixes, are left out."""

_STORES: Final = {36: 4, 38: 1, 44: 2, 52: 4, 54: 8, 61: 16, 62: 16}
_STORES_UPDATE: Final = {37: 4, 39: 1, 45: 2, 53: 4, 55: 8}
"""Primary opcode -> most bytes: stw, stb, sth, stfs, stfd, stxv, std and stq."""

_ARITHMETIC: Final = frozenset(
    {266, 10, 138, 234, 202, 40, 8, 136, 232, 200, 104, 235, 75, 11, 233, 73, 9, 491, 459, 489, 457}
    | {393, 395, 425, 427}
)
"""add, addc, adde, addme, addze, subf, divde... (XO-form, without OE): write RT."""
_ISEL: Final = 15
_MFCR: Final = 19
_WRITES_RT: Final = frozenset(
    {23, 87, 279, 343, 21, 341, 20, 84, 52, 116, 790, 534, 532, 339, 755}
    | {19, 83, 128, 265, 267, 371, 777, 779, 789, 821, 853, 885, 851, 915}
)
"""lwzx, lbzx, lhzx, lhax, ldx, lwax, lwarx, ldarx, lwzcix... without update, mfspr, darn, mfcr,
mfmsr, setb, modsd, mftb, slbmfev...: write RT."""
_WRITES_RA: Final = frozenset(
    {28, 60, 124, 284, 316, 412, _OR, 476, 24, 536, 792, 824, 27, 539, 794, 826, 827}
    | {954, 922, 986, 26, 58, 506, 378, 538, 570, 890, 891}
    | {51, 115, 307, 122, 252, 508}
)
"""and, andc, nor, eqv, xor, orc, or, nand, slw, srw, sraw, sld, extsb, cntlzw, mfvsrd, popcntb,
bpermd, cmpb...: write RA."""
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
    | {269, 301, 332, 364, 524, 781, 813, 179, 211, 243, 403, 435, 22, 470}
    | {206, 238, 274, 306, 402, 434, 466, 498, 566, 822, 838, 886}
)
"""cmp, cmpl, wait, tw, td, mtspr, mtcrf, mtmsr, mtmsrd, dcbf, dcbst, dcbt, dcbtst, icbi, sync,
eieio, tlbie, slbmte, slbia, msgsnd...; the indexed loads of vector and float registers: lvx, lfsx,
lxvd2x...; and what moves a general register to one of these: mtvsrd..."""


def _extended() -> Iterator[tuple[int, int]]:
    """Opcode 31: (extended opcode, fields). lswx, lswi, stswx, stswi and lqarx, which touch several
    registers or many bytes, are left out; a later entry counts more."""
    for xo in range(1024):
        if xo in _ARITHMETIC or xo & 31 == _ISEL:
            yield xo, _RT
    yield from dict.fromkeys(_LOADS_UPDATE_X, _RT | _RA).items()
    yield from dict.fromkeys(_WRITES_RT, _RT).items()
    yield from dict.fromkeys(_WRITES_RA | _INDEXED_UPDATES, _RA).items()
    yield from dict.fromkeys(_READ_ONLY | _INDEXED_STORES, 0).items()


_EXTENDED_FIELDS: Final[Mapping[int, int]] = dict(_extended())

_RT_BITS, _RA_BITS, _RB_BITS, _RECORD = 0x3E00000, 0x1F0000, 0xF800, 1
_RECORDS: Final = (
    frozenset({20, 52, 84, 116, 26, 51, 58, 115, 307, 538, 570, 922, 954, 986, 146, 178})
    | {206, 238, 274, 306, 498, 854, 12, 76, 268, 269, 301, 332, 364, 435, 524, 588, 780, 781}
    | {812, 813, 844, 876, 179, 211, 243, 403, 140, 396, 397, 429, 652, 716, 908, 909, 940, 941}
    | {972, 1004, *_ARITHMETIC, *(_WRITES_RA - {122, 252, 378, 506, 508})}
)
"""Where the last bit may be set: Rc, EH, or the upper half of the vector registers."""
_UNUSED: Final[Mapping[int, int]] = {
    **dict.fromkeys((104, 200, 202, 232, 234, 26, 51, 58, 115, 307, 122, 179), _RB_BITS),
    **dict.fromkeys((538, 570, 922, 954, 986, 378, 506, 211, 243, 403), _RB_BITS),
    **dict.fromkeys((30, 83, 598, 822), _RA_BITS | _RB_BITS),
    **dict.fromkeys((566, 838, 886), _RT_BITS | _RA_BITS | _RB_BITS),
    **dict.fromkeys((402, 466, 851, 915), _RA_BITS),
    **dict.fromkeys((54, 470, 982), _RT_BITS),
    **dict.fromkeys((0, 32), 0x400000),
    _MFCR: 0x801,
    128: 0x3F800,
    144: 0x800,
    755: 0x1CF800,
    434: _RT_BITS | _RA_BITS,
    1014: 0x3C00000,
}
_RECORD_ONLY: Final = frozenset({150, 214, 694, 726})
"""stwcx., stdcx., sthcx., stbcx."""


def _is_valid(word: int, opcode: int, xo: int) -> bool:
    """Whether the reserved fields of an instruction are zero. What it does is not defined if they
    are not (Power ISA, Book I, 1.8.2 on invalid forms)."""
    form = word & 3
    if opcode == _EXTENDED:
        records = xo in _RECORDS or (xo in _RECORD_ONLY) == word & _RECORD
        # mfcr moves all fields of CR, mfocrf one.
        unused = 0xFF000 if xo == _MFCR and not word & 0x100000 else 0
        return records and not word & (_UNUSED.get(xo, 0) | unused)
    if opcode == _CR_LOGICAL:
        isync, mcrf = word == 0x4C00012C, not word & 0x63FFFF
        is_logical = xo in (33, 129, 193, 225, 257, 289, 417, 449) and not form & 1
        return is_logical or isync or mcrf or xo & 31 == _ADDPCIS
    if opcode in (10, 11):
        return not word & 0x400000
    if opcode in (57, 58, 61):
        return form >= 2 if opcode == 57 else form != 3 if opcode == _LOADS else form != 0
    return opcode != 30 or word & 31 < 20


@cache
def effects(word: int) -> Effects:
    """What the instruction `word`, no branch, may change."""
    opcode, rt, ra, rb = word >> 26, word >> 21 & 31, word >> 16 & 31, word >> 11 & 31
    xo = word >> 1 & 0x3FF
    stores = store(word)
    if opcode == _EXTENDED:
        fields = _EXTENDED_FIELDS.get(xo)
    elif stores is not None:
        # stq takes a pair of registers, and what is unknown may do anything.
        fields = None if opcode == 62 and word & 2 else _RA if stores.updates else 0
    elif opcode == _SYSTEM_CALL:
        fields = 0 if word & 3 == 2 else None  # sc; scv is not for kernels
    else:
        fields = 0 if opcode == 61 else _PRIMARY.get(opcode)
    if fields is None or not _is_valid(word, opcode, xo):
        return ANY
    is_move = (opcode == _EXTENDED and xo == _OR and rt == ra == rb) or (
        opcode == _ORI and rt == ra and not word & 0xFFFF
    )
    if is_move:
        return NONE
    if opcode == _LOADS and word & 3 == 1:
        fields |= _RA
    if opcode == _CR_LOGICAL and xo & 31 == _ADDPCIS:
        fields = _RT
    written = {rt if fields & _RT else 0, ra if fields & _RA else 0}
    saves = stores is not None and ra == 1 and not stores.updates and overlaps_save(stores, 0)
    if stores is not None and stores.is_indexed:
        # The other register holds anything; with r1 it may point at the doubleword.
        saves = 1 in (ra, rb)
    return Effects(1 in written, 2 in written, saves)


def overlaps_save(stores: Store, base: int) -> bool:
    """Whether a store without update touches the TOC save doubleword, if the base register is
    `base` bytes more than r1."""
    return -stores.size < base + stores.displacement - TOC_SAVE < 8


def store(word: int) -> Store | None:
    """Where the instruction writes; None for anything but a store."""
    opcode, xo, form = word >> 26, word >> 1 & 0x3FF, word & 3
    if opcode == _EXTENDED:
        updates = xo in _INDEXED_UPDATES
        return Store(0, 16, updates, True) if updates or xo in _INDEXED_STORES else None
    if opcode in _STORES_UPDATE:
        return Store(signed(word & 0xFFFF, 16), _STORES_UPDATE[opcode], True, False)
    if opcode not in _STORES or (opcode == 61 and word & 7 == 1):  # lxv, the one load among them
        return None
    if opcode == 62:
        return Store(signed(word & 0xFFFC, 16), 16 if form & 2 else 8, form == 1, False)
    mask = (0xFFF0 if word & 7 == 5 else 0xFFFC) if opcode == 61 else 0xFFFF
    return Store(signed(word & mask, 16), _STORES[opcode], False, False)
