"""Calls of local trampolines that the assembler has resolved itself, without a relocation.

Within one section the distance to a local symbol is known when the object is assembled, so GNU as
and clang write it into the `bl` and leave nothing for a linker to change, nor for scpatch.
"""

from __future__ import annotations

from collections.abc import Sequence

from scpatch.elf.reader import ElfFile
from scpatch.ppc64 import insn
from scpatch.staticcall.branches import branches_into
from scpatch.staticcall.model import Site, State, Trampoline
from scpatch.staticcall.symbols import Functions


def resolved_calls(elf: ElfFile, trampolines: Sequence[Trampoline]) -> list[Site]:
    """Those calls as sites: refused (SCP212), or done where the restore is in place."""
    by_section: dict[int, list[Trampoline]] = {}
    for one in trampolines:
        if one.local and 0 < one.section < len(elf.sections) and elf.is_code(one.section):
            by_section.setdefault(one.section, []).append(one)
    functions = Functions(elf, by_section)
    sites: list[Site] = []
    for section, inside in by_section.items():
        table = elf.relocations(section)
        relocated = set(table.r_offset) if table is not None else set()
        entries = {entry: one for one in inside for entry in (one.value, one.local_entry)}
        code = elf.content(section)
        for target, offset in branches_into(code, [(entry, entry + 4) for entry in entries]):
            callee = entries.get(target)
            if callee is None or offset in relocated or _is_inside(callee, offset):
                continue
            site = _site(elf, functions, callee, offset)
            # Between functions GNU as pads with a branch over the padding.
            if insn.links(site.word) or functions.covering(section, offset) is not None:
                sites.append(site)
    return sites


def _is_inside(callee: Trampoline, offset: int) -> bool:
    return callee.value <= offset < callee.value + callee.size


def _site(elf: ElfFile, functions: Functions, callee: Trampoline, offset: int) -> Site:
    section = callee.section
    words = elf.content(section)[offset : offset + 8]
    word = int.from_bytes(words[:4], "little")
    after = int.from_bytes(words[4:], "little") if len(words) == 8 else None
    function, function_offset = functions.name(section, offset)
    done = after == insn.LD_R2 and insn.is_branch(word) and insn.links(word)
    return Site(
        section=section,
        section_name=elf.section_name(section),
        offset=offset,
        function=function,
        function_offset=function_offset,
        trampoline=callee.name,
        state=State.DONE if done else State.REFUSED,
        relocation=-1,
        symbol=callee.symbol,
        addend=0,
        word=word,
        after=after,
        code="" if done else "SCP212",
        detail="restored by ld r2,24(r1)" if done else "the call has no relocation",
    )
