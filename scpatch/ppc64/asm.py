"""Assembles the few instructions that scpatch adds, from readable text.

keystone is the assembler. What it makes of the lines that the strategies use is recorded here:
loading keystone takes twice as long as starting Python, for each object of a build. The tests have
keystone and GNU as assemble each recorded line anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from scpatch.ppc64 import insn

RECORDED: Final[Mapping[str, int]] = {
    "b 0": insn.B,
    "bl 0": insn.BL,
    "bcl 20,31,4": 0x429F0005,
    "bctrl": 0x4E800421,
    "blr": 0x4E800020,
    "mfctr 12": 0x7D8902A6,
    "mflr 0": 0x7C0802A6,
    "mflr 12": 0x7D8802A6,
    "mtlr 0": 0x7C0803A6,
    "tdne 0,2": 0x7F001088,
    "lis 0,0x57ac": 0x3C0057AC,
    "ori 0,0,0x6e9d": 0x60006E9D,
    "lis 2,0x57ac": 0x3C4057AC,
    "ori 2,2,0x6e9d": 0x60426E9D,
    "addi 2,2,0": 0x38420000,
    "addi 11,11,24": 0x396B0018,
    "addi 11,11,-24": 0x396BFFE8,
    "addis 2,12,0": 0x3C4C0000,
    "ld 0,0(11)": 0xE80B0000,
    "ld 2,0(1)": 0xE8410000,
    "ld 2,0(11)": 0xE84B0000,
    "ld 2,0(13)": 0xE84D0000,
    "ld 11,0(12)": 0xE96C0000,
    "ld 12,0(13)": 0xE98D0000,
    "std 0,0(11)": 0xF80B0000,
    "std 2,0(1)": 0xF8410000,
    "std 2,0(11)": 0xF84B0000,
    "std 11,0(12)": 0xF96C0000,
}
"""Lines and their instructions. Those of `ld` and `std` also serve for other displacements, which
differ between kernels."""

_DOUBLEWORD: Final = re.compile(r"(l|st)d \d+,(?P<displacement>-?\d+)\(\d+\)")


def assemble(text: str) -> list[int]:
    """The instructions of position-independent `text`, one a line, GNU `as` without `r` names.

    Branches to `0` are left for a relocation. Raises ValueError if keystone cannot assemble a line.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [*map(_word, lines)]


def _word(line: str) -> int:
    match = _DOUBLEWORD.fullmatch(line)
    displacement = int(match["displacement"]) if match else 0
    if match:
        start, end = match.span("displacement")
        line = f"{line[:start]}0{line[end:]}"
    if displacement % 4 or not -0x8000 <= displacement < 0x8000:
        raise ValueError(f"{line!r} has no room for the displacement {displacement}")
    word = RECORDED[line] if line in RECORDED else encode(line)
    return word | displacement & 0xFFFC


def encode(line: str) -> int:
    """The instruction of one line at address 0, by keystone. Raises ValueError.

    Keystone reports some errors by giving back no bytes, so their number is checked.
    """
    import keystone

    engine = keystone.Ks(keystone.KS_ARCH_PPC, keystone.KS_MODE_PPC64 | keystone.KS_MODE_BIG_ENDIAN)
    try:
        code, _ = engine.asm(line, as_bytes=True)
    except keystone.KsError as error:
        raise ValueError(f"keystone cannot assemble {line!r}: {error}") from error
    if not code or len(code) != 4:
        raise ValueError(f"keystone cannot assemble {line!r}")
    return int.from_bytes(code)


def branch(source: int, target: int, *, links: bool = False) -> int:
    """`b`, or `bl`, from one section offset to another. Raises ValueError if it does not reach:
    keystone would wrap the distance silently."""
    distance = target - source
    if not insn.in_branch_reach(distance) or distance % 4:
        raise ValueError(f"b does not reach over {distance:#x} bytes")
    return (insn.BL if links else insn.B) | distance & 0x3FFFFFC
