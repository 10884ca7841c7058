"""What one instruction does to r1, r2 and the TOC save doubleword, and where control goes next.

Branches are read from the instruction word (Power ISA: I-form, B-form, XL-form). Most others are
judged from the disassembler's text, which takes a third of the time of capstone's typed operands;
what it cannot decode (data, Power10 prefixes) is UNKNOWN, apart from a few opcodes.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import cache
from typing import NamedTuple

from scpatch.verifier.objects.decoder import decode
from scpatch.verifier.objects.variant import TOC_SLOT

_I_FORM, _B_FORM, _XL_FORM = 18, 16, 19
_BCLR, _BCCTR, _BCTAR = 16, 528, 560
_ALWAYS = 0b10100
"""BO field of a branch that is always taken (Power ISA, branch instructions)."""

_ADDRESS = re.compile(r"(-?(?:0x)?[0-9a-f]+)\((r\d+)\)")
_STORED = {"stb": 1, "sth": 2, "stw": 4, "stfs": 4, "std": 8, "stfd": 8, "stxsd": 8, "stxssp": 4}
_WIDEST = 32
_MANY_REGISTERS = ("lmw", "stmw", "lsw", "stsw", "lq", "stq")
_SOURCE_FIRST = ("st", "cmp", "tw", "td", "mt", "dcb", "icb")
_WRITES_NONE = (206, 238, 274, 306, 498)
"""`msgsnd`, `msgclr`, `tlbiel`, `tlbie` and `slbia`, which capstone 5 does not know in all their
forms. None writes a general register (Power ISA, Book III)."""
_FLOATING_POINT = (59, 63)
"""The primary opcodes of floating-point arithmetic. The targets are FPRs, VSRs, accumulators and
status registers, never a general register or memory (Power ISA, Book I, chapters 4, 5 and 7, and
the appendix on opcode maps); capstone 5 does not know all of them."""


class Effect(Enum):
    """What an instruction that is no branch does, as far as the TOC pointer is concerned."""

    NONE = auto()
    SAVE = auto()
    """`std r2,24(r1)`"""
    RESTORE = auto()
    """`ld r2,24(r1)`"""
    WRITES_R2 = auto()
    MOVES_R1 = auto()
    WRITES_SLOT = auto()
    """Another store that may reach 24(r1)."""
    UNKNOWN = auto()


class CallEffect(Enum):
    """What a call does to r2 and to 24(r1)."""

    PRESERVES = auto()
    """r2 is what it was. A linker's stub may store it at 24(r1) on the way."""
    LOSES = auto()
    """r2 may be what the target made it; otherwise the same."""
    SAVES = auto()
    """A stub stores r2 at 24(r1), and r2 may then be what the target made it."""
    SAVES_AND_RESTORES = auto()
    """r2 is stored at 24(r1) and loaded again."""


class Flow(Enum):
    """Where control goes from an instruction."""

    NEXT = auto()
    """To the following instruction only."""
    CALL = auto()
    """A branch with link to a place that the instruction or its relocation names."""
    INDIRECT_CALL = auto()
    """`bctrl`, `blrl`: to a place that a register names."""
    JUMP = auto()
    """`b`: to its target only."""
    BRANCH = auto()
    """`bc`: to its target or the following instruction."""
    LEAVES = auto()
    """`blr`, `bctr`, `rfid`: never to the following instruction."""
    MAY_LEAVE = auto()
    """`beqlr`, `beqctr`: the following instruction is reached too."""


@cache
def flow(word: int) -> Flow:
    """How the instruction `word` passes control on."""
    opcode, link = word >> 26, word & 1
    if opcode == _I_FORM:
        return Flow.CALL if link else Flow.JUMP
    if opcode == _B_FORM:
        return Flow.CALL if link else Flow.BRANCH
    if opcode == _XL_FORM:
        extended, always = word >> 1 & 0x3FF, word >> 21 & _ALWAYS == _ALWAYS
        if extended in (_BCLR, _BCCTR, _BCTAR):
            if link:
                return Flow.INDIRECT_CALL
            return Flow.LEAVES if always else Flow.MAY_LEAVE
        if extended in (18, 274):  # rfid, hrfid
            return Flow.LEAVES
    return Flow.NEXT


def target(word: int, offset: int) -> int | None:
    """The section offset that a branch at `offset` names itself; None for an absolute one, and
    for what is no branch. Of no meaning where a relocation applies to the word."""
    opcode = word >> 26
    if opcode not in (_I_FORM, _B_FORM) or word & 2:
        return None
    bits = 26 if opcode == _I_FORM else 16
    displacement = word & ((1 << bits) - 4)
    if displacement >> (bits - 1):
        displacement -= 1 << bits
    return offset + displacement


@cache
def distance(word: int) -> int | None:
    """How far a branch goes that names its target itself, in bytes; None as for `target`."""
    return target(word, 0)


class _Text(NamedTuple):
    """The text of an instruction: `std`, `r2`, `24(r1)`. Where the last operand is such an
    address, `base` and `displacement` are its parts."""

    name: str
    operands: list[str]
    base: str = ""
    displacement: int | None = None

    @property
    def updates(self) -> bool:
        """Whether a load or store sets its base register to the address."""
        name = self.name.rstrip(".")
        return name.startswith(("l", "st")) and name.endswith(("u", "ux"))

    @property
    def written(self) -> set[str]:
        """The general registers that it writes, as far as the text tells."""
        is_source = self.name.startswith(_SOURCE_FIRST) and not self.name.startswith("cmpb")
        written = set() if is_source else set(self.operands[:1])
        if self.updates:
            written.add(self.base or "".join(self.operands[1:2]))
        return written


@cache
def _text(word: int) -> _Text:
    name, _, rest = decode(word).partition(" ")
    operands = rest.replace(" ", "").split(",") if rest else []
    address = _ADDRESS.fullmatch(operands[-1]) if operands else None
    if address is None:
        return _Text(name, operands)
    return _Text(name, operands, address[2], int(address[1], 0))


@cache
def effect(word: int) -> Effect:
    """What the instruction `word` does, by itself: what a relocation changes is no register."""
    opcode = word >> 26
    if opcode in _FLOATING_POINT or (opcode == 31 and word >> 1 & 0x3FF in _WRITES_NONE):
        return Effect.NONE
    text = _text(word)
    if not text.name:
        return Effect.UNKNOWN  # data, or the prefix of a Power10 pair
    name, operands = text.name, text.operands
    if name.startswith(_MANY_REGISTERS):
        return Effect.UNKNOWN
    if text.base == "r1" and text.displacement == TOC_SLOT:
        if (name, operands[0]) == ("std", "r2"):
            return Effect.SAVE
        if (name, operands[0]) == ("ld", "r2"):
            return Effect.RESTORE
    if name in ("ori", "nop") and operands in ([], ["r1", "r1", "0"], ["r2", "r2", "0"]):
        return Effect.NONE  # gcc pads groups with `ori 2,2,0`, which leaves r2 as it is
    if name in ("mr", "or") and len(set(operands)) == 1:
        return Effect.NONE  # `or 1,1,1` and `or 2,2,2` set the thread's priority
    if "r1" in text.written:
        return Effect.MOVES_R1
    writes_r2, store = "r2" in text.written, as_store(word)
    if store is not None and "r1" in store.registers and store.may_reach_slot(0):
        return Effect.UNKNOWN if writes_r2 else Effect.WRITES_SLOT
    return Effect.WRITES_R2 if writes_r2 else Effect.NONE


class Sum(NamedTuple):
    """A register that an instruction sets to another register + `distance`."""

    register: str
    source: str
    distance: int


def as_sum(word: int) -> Sum | None:
    """What `mr`, `addi` and their like do; None for any other instruction."""
    first, second, low = word >> 21 & 31, word >> 16 & 31, word & 0xFFFF
    match word >> 26:
        case 14 | 15 as opcode if second:  # addi, addis; with 0 for the source li and lis
            distance = (low ^ 0x8000) - 0x8000
            return Sum(f"r{first}", f"r{second}", distance << (16 if opcode == 15 else 0))
        case 24 if not low:  # ori
            return Sum(f"r{second}", f"r{first}", 0)
        case 31 if low >> 1 & 0x3FF == 444 and low >> 11 == first:  # or, and so mr
            return Sum(f"r{second}", f"r{first}", 0)
    return None


class Stored(NamedTuple):
    """Where a store goes: the registers of its address. If that is a register and a displacement,
    `first` is the displacement, and `width` the most bytes that are stored. With `moves` the
    register is set to the address, so that the next store may go further."""

    registers: tuple[str, ...]
    first: int | None
    width: int
    moves: bool

    def may_reach_slot(self, distance: int) -> bool:
        """Whether it may store in 24(r1) through a register that holds r1 + `distance`. A store in
        steps or with an index, from the function's variables on, stays in these variables: they
        follow the frame's header."""
        start = distance + (self.first or 0)
        is_exact = self.first is not None and not self.moves
        return start < TOC_SLOT + 8 and not (is_exact and start + self.width <= TOC_SLOT)


@cache
def as_store(word: int) -> Stored | None:
    """The address of a store; None for any other instruction."""
    text = _text(word)
    if not text.name.startswith(("st", "dcbz")):
        return None
    registers = (text.base,) if text.base else tuple(text.operands[text.name.startswith("st") :])
    width = _STORED.get(text.name, _WIDEST) if text.base else _WIDEST
    return Stored(registers, text.displacement, width, text.updates)


def toc_load(word: int) -> int | None:
    """The offset of `ld r2,offset(r13)`, which loads r2 from the PACA; None for another word."""
    is_load = word & 0xFFFF0003 == 0xE84D0000
    return (word & 0xFFFC ^ 0x8000) - 0x8000 if is_load else None


def base_is_r1(word: int) -> bool:
    """Whether the RA field, of a load or store the base register, is r1."""
    return word >> 16 & 31 == 1


def is_padding(word: int) -> bool:
    """Whether a word fills the space before a label that nothing falls into: a nop, `ori N,N,0` or
    `xnop`; or zero, which clang puts after a branch."""
    register = word >> 21 & 31
    return word in (0, 0x68000000, 0x60000000 | register << 21 | register << 16)
