"""The text of instructions: capstone's, in the form of a listing, with symbols where they belong.

What capstone prints for the immediate of a relocated instruction means nothing in an object; the
relocation's symbol is shown in its place. Power10 prefixed instructions, which capstone takes for
two unrelated ones, and words that it does not know are shown as `.long`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from scpatch.differ.model import Kind, Reference, Segment
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.reloc_names import SUFFIXES
from scpatch.ppc64.variant import VARIANT

if TYPE_CHECKING:
    from capstone import Cs

Label = Callable[[int], str]
"""Section offset -> how to call it."""

_NUMBER = re.compile(r"-?0x[0-9a-f]+")
_IMMEDIATE = re.compile(r"(.*?)(-?\d+)(\(r?\d+\))?")


def suffixes(words: Sequence[int]) -> Iterator[bool]:
    """For each word of a function, whether it is the second half of a prefixed instruction."""
    suffix = False
    for word in words:
        yield suffix
        suffix = not suffix and insn.is_prefix(word)


def text_of(
    word: int, offset: int, references: Sequence[Reference], label: Label, *, suffix: bool = False
) -> tuple[Segment, ...]:
    """The text of one word at a section offset; its relocated or local operand is symbolic."""
    if suffix or insn.is_prefix(word):
        return _long(word)
    return _text(word, offset, references, label)


def shows(text: Sequence[Segment], reference: Reference) -> bool:
    """Whether the instruction's text says what the relocation says."""
    return any(
        segment.kind is Kind.SYMBOL and segment.text == _symbol(reference) for segment in text
    )


def _symbol(reference: Reference) -> str:
    return reference.target + SUFFIXES.get(reference.type, "")


def _long(word: int) -> tuple[Segment, ...]:
    return Segment(Kind.MNEMONIC, ".long"), Segment(Kind.OPERAND, f"{word:#010x}")


def _text(
    word: int, offset: int, references: Sequence[Reference], label: Label
) -> tuple[Segment, ...]:
    mnemonic, operands = _plain(word)
    branches = [one for one in references if one.type in relocs.BRANCHES]
    target = insn.direct_target(word, 0)
    if branches or target is not None:
        name = _symbol(branches[0]) if branches else label(offset + (target or 0))
        # The target is the last operand, but capstone leaves out a displacement of zero.
        leading = re.sub(r"(^|,)-?\d+$", "", operands)
        return _segments(mnemonic, leading + "," * bool(leading), name)
    for one in references:
        match = _IMMEDIATE.fullmatch(operands)
        if one.type in SUFFIXES and match:
            return _segments(mnemonic, match[1], _symbol(one), match[3] or "")
    return _segments(mnemonic, operands)


def _segments(
    mnemonic: str, operands: str, symbol: str = "", rest: str = ""
) -> tuple[Segment, ...]:
    pairs = ((Kind.OPERAND, operands), (Kind.SYMBOL, symbol), (Kind.OPERAND, rest))
    return (
        Segment(Kind.MNEMONIC, mnemonic),
        *(Segment(kind, text) for kind, text in pairs if text),
    )


@cache
def _capstone() -> Cs:
    from capstone import CS_ARCH_PPC, CS_MODE_64, CS_MODE_LITTLE_ENDIAN, Cs

    return Cs(CS_ARCH_PPC, CS_MODE_64 | CS_MODE_LITTLE_ENDIAN)


_VSX = ("xx", "xs", "xv", "lxs", "lxv", "stxs", "stxv")
_ALTIVEC_HALF = frozenset({"lxsd", "lxssp", "stxsd", "stxssp"})
_REGISTER = re.compile(r"\b([fv])(\d+)")


def _vsx_register(match: re.Match[str]) -> str:
    """vs0 to vs31 lie over the floating-point registers, vs32 to vs63 are the AltiVec ones."""
    return f"vs{int(match[2]) + 32 * (match[1] == 'v')}"


_CROR_NOPS = {0x4DEF7B82: "15,15,15", 0x4FFFFB82: "31,31,31"}
"""The other words that linkers take for a nop, as their authors write them."""
_SCV, _SCV_MASK = 0x44000001, 0xFFFFF01F
"""The system call of Power ISA 3.0, which capstone does not know. Bits 20 to 26 are its level."""


@lru_cache(maxsize=1 << 16)
def _plain(word: int) -> tuple[str, str]:
    """Mnemonic and operands of a word, numbers in decimal as listings have them."""
    if word in _CROR_NOPS:
        return "cror", _CROR_NOPS[word]
    for _, _, mnemonic, operands in _capstone().disasm_lite(VARIANT.encode(word), 0):
        text = _NUMBER.sub(lambda match: str(int(match[0], 16)), operands).replace(", ", ",")
        if mnemonic.startswith(_VSX) and mnemonic not in _ALTIVEC_HALF:
            text = _REGISTER.sub(_vsx_register, text)
        return _simplified(mnemonic, text)
    if word & _SCV_MASK == _SCV:
        return "scv", f"{word >> 5 & 0x7F}"
    return ".long", f"{word:#010x}"


def _simplified(mnemonic: str, operands: str) -> tuple[str, str]:
    """The extended mnemonics that the binutils print and capstone does not (Power ISA, book I,
    appendix C)."""
    parts = operands.split(",")
    dot = "." if mnemonic.endswith(".") else ""
    registers, name = ",".join(parts[:2]), mnemonic.removesuffix(".")
    if name in _ROTATIONS and all(part.isdigit() for part in parts[2:]):
        found = _ROTATIONS[name](*map(int, parts[2:]))
        return (found[0] + dot, f"{registers},{found[1]}") if found else (mnemonic, operands)
    if name in _SAME_TWICE and len(parts) == 3 and parts[1] == parts[2]:
        return _SAME_TWICE[name] + dot, registers
    return mnemonic, operands


_SAME_TWICE = {"or": "mr", "nor": "not", "xxlor": "xxmr"}


def _rldicl(sh: int, mb: int) -> tuple[str, int] | None:
    return ("srdi", mb) if sh and mb == 64 - sh else None


def _rldicr(sh: int, me: int) -> tuple[str, int] | None:
    if not sh:
        return "clrrdi", 63 - me
    return ("sldi", sh) if me == 63 - sh else None


def _rlwinm(sh: int, mb: int, me: int) -> tuple[str, int] | None:
    if not sh and not mb:
        return "clrrwi", 31 - me
    return ("srwi", mb) if sh and me == 31 and mb == 32 - sh else None


_ROTATIONS: dict[str, Callable[..., tuple[str, int] | None]] = {
    "rldicl": _rldicl,
    "rldicr": _rldicr,
    "rlwinm": _rlwinm,
}
