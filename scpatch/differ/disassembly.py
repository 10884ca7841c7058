"""The text of instructions: capstone's operands in the form of a listing, with symbols; GNU
objdump's, if capstone is not installed.

What they say of the immediate of a relocated instruction means nothing in an object: the symbol of
the relocation is shown in its place. Two kinds of words are shown as `.long`: Power10 prefixed
instructions, which capstone takes for two unrelated ones, and words that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from scpatch.differ.model import NamedRelocation, Role, Token
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.reloc_names import SUFFIXES
from scpatch.verifier.objects import decoder

if TYPE_CHECKING:
    from capstone import Cs, CsInsn

Label = Callable[[int], str]
"""Section offset -> how to call it."""


class Operand(NamedTuple):
    """`r2`, `24` or `24(r1)`: a number, if there is one, and what stands after it."""

    number: int | None
    rest: str = ""

    def __str__(self) -> str:
        return self.rest if self.number is None else f"{self.number}{self.rest}"


def prepare(words: Iterable[int]) -> None:
    """Has objdump, if that is what disassembles, read many words at once. Raises ScpatchError if
    there is neither capstone nor objdump (SCP301)."""
    decoder.prepare(words)


def suffixes(words: Sequence[int]) -> Iterator[bool]:
    """For each word of a function, whether it is the second half of a prefixed instruction."""
    suffix = False
    for word in words:
        yield suffix
        suffix = not suffix and insn.is_prefix(word)


def text_of(
    word: int,
    offset: int,
    relocations: Sequence[NamedRelocation],
    label: Label,
    *,
    suffix: bool = False,
) -> tuple[Token, ...]:
    """The text of one word at a section offset; its relocated or local operand is symbolic."""
    if suffix or insn.is_prefix(word):
        return Token(Role.MNEMONIC, ".long"), Token(Role.OPERAND, f"{word:#010x}")
    mnemonic, operands = _decode(word)
    symbol, rest = "", ""
    branches = [relocation for relocation in relocations if relocation.type in relocs.BRANCHES]
    target = insn.direct_target(word, 0)
    if branches or target is not None:
        symbol = _symbol(branches[0]) if branches else label(offset + (target or 0))
        # The target is the last operand, but capstone leaves out a displacement of zero.
        if operands and operands[-1].number is not None and not operands[-1].rest:
            operands = operands[:-1]
    elif operands and (number := operands[-1]).number is not None:
        symbols = [_symbol(entry) for entry in relocations if entry.type in SUFFIXES]
        if symbols:
            symbol, rest, operands = symbols[0], number.rest, operands[:-1]
    leading = ",".join(map(str, operands)) + "," * bool(operands and symbol)
    parts = ((Role.OPERAND, leading), (Role.SYMBOL, symbol), (Role.OPERAND, rest))
    return Token(Role.MNEMONIC, mnemonic), *(Token(kind, text) for kind, text in parts if text)


def shows(tokens: Sequence[Token], relocation: NamedRelocation) -> bool:
    """Whether the instruction's text says what the relocation says."""
    return Token(Role.SYMBOL, _symbol(relocation)) in tokens


def _symbol(relocation: NamedRelocation) -> str:
    return relocation.target + SUFFIXES.get(relocation.type, "")


@cache
def _capstone() -> Cs | None:
    if decoder.capstone() is None:
        return None
    from capstone import CS_ARCH_PPC, CS_MODE_64, CS_MODE_BIG_ENDIAN, Cs

    disassembler = Cs(CS_ARCH_PPC, CS_MODE_64 | CS_MODE_BIG_ENDIAN)
    disassembler.detail = True
    return disassembler


_CROR_NOPS: Final = {0x4DEF7B82: 15, 0x4FFFFB82: 31}
"""The other words that linkers take for a nop, as their authors write them."""
_SCV, _SCV_MASK = 0x44000001, 0xFFFFF01F
"""The system call of Power ISA 3.0, which capstone does not know. Bits 20 to 26 are its level."""


@lru_cache(maxsize=1 << 16)
def _decode(word: int) -> tuple[str, tuple[Operand, ...]]:
    """Mnemonic and operands of a word."""
    if bit := _CROR_NOPS.get(word):
        return "cror", (Operand(bit),) * 3
    if (engine := _capstone()) is None:
        if text := decoder.decode(word):
            return _read_listing(text, word)
    else:
        for instruction in engine.disasm(word.to_bytes(4), 0):
            return _simplified(instruction.mnemonic, _operands(instruction, word))
    if word & _SCV_MASK == _SCV:
        return "scv", (Operand(word >> 5 & 0x7F),)
    return ".long", (Operand(None, f"{word:#010x}"),)


_NUMBER: Final = re.compile(r"(-?\d+)((?:\(r?\d+\))?)")


def _read_listing(text: str, word: int) -> tuple[str, tuple[Operand, ...]]:
    """Mnemonic and operands of a line of objdump."""
    mnemonic, _, rest = text.partition(" ")
    parts = rest.split(",") if rest else []
    if word >> 26 in (16, 18):  # The last operand is the target, and its number is hexadecimal.
        target = Operand(int(parts.pop(), 16))
        return mnemonic, (*map(_operand, parts), target)
    return mnemonic, tuple(map(_operand, parts))


def _operand(text: str) -> Operand:
    match = _NUMBER.fullmatch(text)
    return Operand(int(match[1]), match[2]) if match else Operand(None, text)


_VSX: Final = ("xx", "xs", "xv", "lxs", "lxv", "stxs", "stxv")
_ALTIVEC_HALF: Final = frozenset({"lxsd", "lxssp", "stxsd", "stxssp"})

_LEFT_OUT: Final = {"mtocrf": (0, 12, 0xFF), "mfocrf": (1, 12, 0xFF), "xxspltd": (2, 8, 1)}
"""Operands that capstone prints and does not list: mnemonic -> index, shift and mask of a field."""


def _operands(instruction: CsInsn, word: int) -> tuple[Operand, ...]:
    from capstone.ppc import PPC_OP_IMM, PPC_OP_MEM

    mnemonic: str = instruction.mnemonic
    vsx = mnemonic.startswith(_VSX) and mnemonic not in _ALTIVEC_HALF

    def name(register: int) -> str:
        """vs0 to vs31 contain the floating-point registers, vs32 to vs63 are the AltiVec ones."""
        text: str = instruction.reg_name(register) or "0"
        if vsx and text[0] in "fv" and text[1:].isdigit():
            return f"vs{int(text[1:]) + 32 * (text[0] == 'v')}"
        # A bit of cr0 that a branch tests: only `bdnzt` and the like name it.
        return text.removeprefix("cr0") if mnemonic.startswith("bd") else text

    operands = []
    for operand in instruction.operands:
        if operand.type == PPC_OP_IMM:
            operands.append(Operand(operand.imm))
        elif operand.type == PPC_OP_MEM:
            operands.append(Operand(operand.mem.disp, f"({name(operand.mem.base)})"))
        else:
            operands.append(Operand(None, name(operand.reg)))
    if mnemonic in _LEFT_OUT:
        index, shift, mask = _LEFT_OUT[mnemonic]
        operands.insert(index, Operand(word >> shift & mask))
    return tuple(operands)


def _simplified(mnemonic: str, operands: tuple[Operand, ...]) -> tuple[str, tuple[Operand, ...]]:
    """The extended mnemonics that the binutils print and capstone does not (Power ISA, book I,
    appendix C)."""
    name, dot = mnemonic.removesuffix("."), "." if mnemonic.endswith(".") else ""
    registers, numbers = operands[:2], [operand.number for operand in operands[2:]]
    match name, numbers:
        case "rldicl", [int(sh), int(mb)] if sh and mb == 64 - sh:
            return "srdi" + dot, (*registers, Operand(mb))
        case "rldicr", [0, int(me)]:
            return "clrrdi" + dot, (*registers, Operand(63 - me))
        case "rldicr", [int(sh), int(me)] if me == 63 - sh:
            return "sldi" + dot, (*registers, Operand(sh))
        case "rlwinm", [0, 0, int(me)]:
            return "clrrwi" + dot, (*registers, Operand(31 - me))
        case "rlwinm", [int(sh), int(mb), 31] if sh and mb == 32 - sh:
            return "srwi" + dot, (*registers, Operand(mb))
        case (("or" | "nor" | "xxlor"), [None]) if operands[1] == operands[2]:
            return {"or": "mr", "nor": "not", "xxlor": "xxmr"}[name] + dot, registers
    return mnemonic, operands
