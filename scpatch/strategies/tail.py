"""The end of a section's code, where appended code goes."""

from __future__ import annotations

from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError, damaged
from scpatch.ppc64 import insn
from scpatch.ppc64.asm import branch
from scpatch.ppc64.branches import branches_into
from scpatch.ppc64.variant import VARIANT


def lead(elf: ElfFile, section: int, size: int) -> bytes:
    """What goes between the old code and `size` bytes of new code: alignment, and a branch over
    the new code where the old one could run into it.

    A section such as `.init` is one function in pieces: control falls from the end of one
    object's part into the next object's.

    Raises SCP243 if a branch of the section leads past its end, where it would run into the new
    code, and SCP107 if a relocation applies there.
    """
    code = elf.content(section)
    _check_nothing_past_the_end(elf, section, code, size)
    padding = b"\0" * (-len(code) % 4)
    if padding or not _falls_through(code):
        return padding
    return branch(0, 4 + size)


def _check_nothing_past_the_end(elf: ElfFile, section: int, code: memoryview, size: int) -> None:
    table, name = elf.relocations(section), elf.section_name(section)
    offsets = table.r_offset if table is not None else ()
    if max(offsets, default=0) >= len(code) > 0:
        raise damaged(elf.name, f"a relocation applies past the end of {name}")
    end, more = len(code), size + 8
    past = branches_into(code, [(end, end + more)], past=more)
    if relocated := past and set(offsets):
        past = [branch for branch in past if branch[1] not in relocated]
    if past:
        target, source = past[0]
        what = f"a branch to {name}+{target:#x}, past the end of the section, where code is added"
        raise ScpatchError("SCP243", what, file=elf.name, where=f"{name}+{source:#x}")


def _falls_through(code: memoryview) -> bool:
    """Whether control may reach the end of a section's code."""
    for at in range(len(code) - 4, -1, -4):
        word = VARIANT.word(code, at)
        if word not in (0, *insn.NOPS):
            return insn.falls_through(word)
    return True
