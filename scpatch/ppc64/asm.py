"""Assembles the few instructions that scpatch adds, from readable text, with keystone."""

from __future__ import annotations

from functools import cache

from scpatch.ppc64.abi import in_branch_reach


@cache
def assemble(text: str) -> bytes:
    """The code of position-independent `text`, one instruction a line, GNU `as` without `r` names.

    Branches to `0` are left for a relocation. Raises ValueError for what keystone cannot
    assemble: it reports some errors by giving back no bytes, so their number is checked.
    """
    import keystone

    lines = [line.strip() for line in text.splitlines() if line.strip()]
    engine = keystone.Ks(
        keystone.KS_ARCH_PPC, keystone.KS_MODE_PPC64 | keystone.KS_MODE_LITTLE_ENDIAN
    )
    code = b""
    for line in lines:
        # One line at a time, each at address 0: a branch to 0 then has a displacement of 0.
        try:
            encoded, _ = engine.asm(line, as_bytes=True)
        except keystone.KsError as error:
            raise ValueError(f"keystone cannot assemble {line!r}: {error}") from error
        if not encoded or len(encoded) != 4:
            raise ValueError(f"keystone cannot assemble {line!r}")
        code += encoded
    return code


def branch(source: int, target: int) -> bytes:
    """`b` from one section offset to another. Raises ValueError out of reach, where keystone
    would wrap the distance silently."""
    distance = target - source
    if not in_branch_reach(distance) or distance % 4:
        raise ValueError(f"b does not reach over {distance:#x} bytes")
    return assemble(f"b .{distance:+d}")
