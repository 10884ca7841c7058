"""Calls that the assembler has resolved itself, without a relocation.

Within one section the distance to a local symbol is known when the object is assembled, so GNU as
and clang write it into the `bl` and leave nothing for a linker to change. A stub lies in the
caller's section as well, so scpatch can change the distance. So can it find those calls again that
it has led to a stub.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile
from scpatch.ppc64 import insn
from scpatch.ppc64.branches import branches_into
from scpatch.ppc64.variant import VARIANT
from scpatch.sites.model import Callee, Stub, Trampoline
from scpatch.sites.references import Reference


def resolved_calls(
    elf: ElfFile, trampolines: Sequence[Trampoline], stubs: Sequence[Stub]
) -> Iterator[Reference]:
    """Those calls. One that is `displaced` goes to a global entry point and computes r2 there."""
    callees: list[Callee] = [*trampolines, *stubs]
    by_section: dict[int, list[Callee]] = {}
    for one in callees:
        if one.section and elf.is_code(one.section):
            by_section.setdefault(one.section, []).append(one)
    functions: Functions | None = None
    for section, inside in by_section.items():
        table = elf.relocations(section)
        relocated = set(table.r_offset) if table is not None else set()
        entries: dict[int, tuple[Callee, bool]] = {}
        for one in inside:
            last = one.value if isinstance(one, Stub) else one.local_entry
            entries.setdefault(one.value, (one, last != one.value))
            entries.setdefault(last, (one, False))
        code = elf.content(section)
        for target, offset in branches_into(code, [(entry, entry + 4) for entry in entries]):
            callee, displaced = entries.get(target, (None, False))
            if callee is None or offset in relocated or _is_inside(callee, offset):
                continue
            functions = functions or Functions(elf, by_section)
            word = VARIANT.word(code, offset)
            is_call = insn.links(word) or (isinstance(callee, Stub) and callee.is_thunk)
            # Between functions GNU as pads with a branch over the padding.
            if is_call or functions.covering(section, offset) is not None:
                yield Reference(section, offset, callee, displaced, table, -1)


def _is_inside(callee: Callee, offset: int) -> bool:
    return callee.value <= offset < callee.value + callee.size
