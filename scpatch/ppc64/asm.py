"""Assembles the few instructions that scpatch adds, from readable text, with keystone.

The lines that every rewrite needs stand here with the words that keystone makes of them: loading
keystone takes twice as long as starting python, for each object of a build. The tests have
keystone assemble each of them anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from scpatch.ppc64 import insn
from scpatch.ppc64.abi import in_branch_reach

ASSEMBLED: Final[Mapping[str, int]] = {
    "std 2,24(1)": insn.STD_R2,
    "ld 2,24(1)": insn.LD_R2,
    "b 0": insn.B,
    "bl 0": insn.BL,
    "addi 11,11,24": 0x396B0018,
    "addi 11,11,-24": 0x396BFFE8,
    "mflr 0": 0x7C0802A6,
    "mtlr 0": 0x7C0803A6,
    "mfctr 12": 0x7D8902A6,
    "bctrl": 0x4E800421,
    "blr": 0x4E800020,
    "lis 0,0x57ac": 0x3C0057AC,
    "ori 0,0,0x6e9d": 0x60006E9D,
    "lis 2,0x57ac": 0x3C4057AC,
    "ori 2,2,0x6e9d": 0x60426E9D,
    "tdne 0,2": 0x7F001088,
}
"""Lines whose words are known."""

_DOUBLEWORD = re.compile(r"(ld|std) (\d+),(-?\d+)\((\d+)\)")
_DS_FORM: Final = {"ld": 58 << 26, "std": 62 << 26}


def assemble(text: str) -> bytes:
    """The code of position-independent `text`, one instruction a line, GNU `as` without `r` names.

    Branches to `0` are left for a relocation. Raises ValueError for what keystone cannot assemble.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return b"".join(_word(line).to_bytes(4, "little") for line in lines)


def _word(line: str) -> int:
    if line in ASSEMBLED:
        return ASSEMBLED[line]
    match = _DOUBLEWORD.fullmatch(line)
    return encode(line) if match is None else _doubleword(*match.groups())


def _doubleword(name: str, register: str, displacement: str, base: str) -> int:
    """`ld` or `std` at a displacement from a register, which differs from kernel to kernel."""
    fields = int(register), int(displacement), int(base)
    if max(fields[0], fields[2]) > 31 or fields[1] % 4 or not -0x8000 <= fields[1] < 0x8000:
        raise ValueError(f"{name} has no room for {displacement}, or no such register")
    return _DS_FORM[name] | fields[0] << 21 | fields[2] << 16 | fields[1] & 0xFFFC


def encode(line: str) -> int:
    """The word of one instruction at address 0, by keystone. Raises ValueError.

    Keystone reports some errors by giving back no bytes, so their number is checked.
    """
    import keystone

    engine = keystone.Ks(
        keystone.KS_ARCH_PPC, keystone.KS_MODE_PPC64 | keystone.KS_MODE_LITTLE_ENDIAN
    )
    try:
        encoded, _ = engine.asm(line, as_bytes=True)
    except keystone.KsError as error:
        raise ValueError(f"keystone cannot assemble {line!r}: {error}") from error
    if not encoded or len(encoded) != 4:
        raise ValueError(f"keystone cannot assemble {line!r}")
    return int.from_bytes(encoded, "little")


def branch(source: int, target: int, *, links: bool = False) -> bytes:
    """`b`, or `bl`, from one section offset to another. Raises ValueError out of reach, where
    keystone would wrap the distance silently."""
    distance = target - source
    if not in_branch_reach(distance) or distance % 4:
        raise ValueError(f"b does not reach over {distance:#x} bytes")
    return ((insn.BL if links else insn.B) | distance & 0x3FFFFFC).to_bytes(4, "little")
