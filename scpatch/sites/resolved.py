"""Calls that the assembler has resolved itself, without a relocation.

Within one section the distance to a local symbol is known when the object is assembled, so GNU as
and clang write it into the `bl` and leave nothing for a linker to change. A stub is in the
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
from scpatch.sites.references import Reference, entries


def resolved_calls(
    elf: ElfFile, trampolines: Sequence[Trampoline], stubs: Sequence[Stub]
) -> Iterator[Reference]:
    """Those calls. One that is `displaced` goes to a global entry point and computes r2 there."""
    callees: list[Callee] = [*trampolines, *stubs]
    by_section: dict[int, list[Callee]] = {}
    for callee in callees:
        if callee.section and elf.is_code(callee.section):
            by_section.setdefault(callee.section, []).append(callee)
    functions: Functions | None = None
    for section, inside in by_section.items():
        table = elf.relocations(section)
        relocated = set(table.r_offset) if table is not None else set()
        targets: dict[int, tuple[Callee, bool]] = {}
        for callee in inside:
            local = entries(callee)[-1]
            targets.setdefault(callee.value, (callee, local != callee.value))
            targets.setdefault(local, (callee, False))
        code = elf.content(section)
        for target, offset in branches_into(code, [(entry, entry + 4) for entry in targets]):
            if target not in targets or offset in relocated:
                continue
            callee, displaced = targets[target]
            if callee.value <= offset < callee.value + callee.size:
                continue
            functions = functions or Functions(elf, by_section)
            links = insn.links(VARIANT.word(code, offset))
            is_call = links or (isinstance(callee, Stub) and callee.is_thunk)
            # Between functions GNU as pads with a branch over the padding.
            if is_call or functions.covering(section, offset) is not None:
                yield Reference(section, offset, callee, displaced, table, -1)
