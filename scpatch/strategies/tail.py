"""The end of a section's code, where appended code goes."""

from __future__ import annotations

from scpatch.elf.reader import ElfFile
from scpatch.ppc64 import insn
from scpatch.ppc64.asm import branch
from scpatch.ppc64.variant import VARIANT


def lead(elf: ElfFile, section: int, size: int) -> bytes:
    """What goes between the old code and `size` bytes of new code: alignment, and a branch over
    the new code where the old one could run into it.

    A section such as `.init` is one function in pieces: control falls from the end of one
    object's part into the next object's.
    """
    code = elf.content(section)
    padding = b"\0" * (-len(code) % 4)
    if padding or not _falls_through(code):
        return padding
    return branch(0, 4 + size)


def _falls_through(code: memoryview) -> bool:
    """Whether control may reach the end of a section's code."""
    for at in range(len(code) - 4, -1, -4):
        word = VARIANT.word(code, at)
        if word not in (0, *insn.NOPS):
            return insn.falls_through(word)
    return True
