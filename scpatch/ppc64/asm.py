"""Assembles the few instructions that scpatch adds, from readable text, with keystone.

The lines that every rewrite needs stand here with the words that keystone makes of them: loading
keystone takes twice as long as starting python, for each object of a build. The tests have
keystone assemble each of them anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from scpatch.ppc64 import insn
from scpatch.ppc64.abi import in_branch_reach

ASSEMBLED: Final[Mapping[str, int]] = {
    "std 2,24(1)": insn.STD_R2,
    "ld 2,24(1)": insn.LD_R2,
    "b 0": insn.B,
    "bl 0": insn.BL,
}
"""Lines whose words are known."""


def assemble(text: str) -> bytes:
    """The code of position-independent `text`, one instruction a line, GNU `as` without `r` names.

    Branches to `0` are left for a relocation. Raises ValueError for what keystone cannot assemble.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = [ASSEMBLED[line] if line in ASSEMBLED else encode(line) for line in lines]
    return b"".join(word.to_bytes(4, "little") for word in words)


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


def branch(source: int, target: int) -> bytes:
    """`b` from one section offset to another. Raises ValueError out of reach, where keystone
    would wrap the distance silently."""
    distance = target - source
    if not in_branch_reach(distance) or distance % 4:
        raise ValueError(f"b does not reach over {distance:#x} bytes")
    return (insn.B | distance & 0x3FFFFFC).to_bytes(4, "little")
