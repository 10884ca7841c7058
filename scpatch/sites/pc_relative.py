"""Which trampolines are in pc-relative code, the code of Power10 that has no TOC pointer.

Its functions have one entry point, take nothing in r2 and need not preserve it (psABI
3.4.1). Compilers make it with `-mpcrel`; a kernel with PPC_KERNEL_PCREL has no other.
"""

from __future__ import annotations

from scpatch.elf.reader import ElfFile
from scpatch.ppc64 import relocs
from scpatch.sites.model import Kind, Place, Scan, Trampoline

_PC_RELATIVE = relocs.PREFIXED_PC_RELATIVE | relocs.NOTOC
_OF_OTHER_CODE = relocs.TOC_RELATIVE | {relocs.R_PPC64_REL24}
"""A plain branch may hand r2 on."""


def pc_relative_places(elf: ElfFile, scan: Scan) -> frozenset[Place]:
    """The entry points of the trampolines in the object that are pc-relative code.

    Relocations of a trampoline's own instructions say it. One without such relocations is so if
    the object calls it only from code that does not use r2.
    """
    one_entry: dict[int, list[Trampoline]] = {}
    for trampoline in scan.trampolines:
        if trampoline.defined and trampoline.local_entry == trampoline.value:
            one_entry.setdefault(trampoline.section, []).append(trampoline)
    needless = _called(scan, needs_r2=False) - needing_r2(scan)
    found = set()
    for section, here in one_entry.items():
        for trampoline, kinds in _relocation_types(elf, section, here).items():
            place = trampoline.entry_place
            is_pc_relative = bool(kinds & _PC_RELATIVE) or place in needless
            if is_pc_relative and not kinds & _OF_OTHER_CODE:
                found.add(place)
    return frozenset(found)


def needing_r2(scan: Scan) -> frozenset[Place]:
    """The entry points of trampolines that the object calls from code that uses r2."""
    return _called(scan, needs_r2=True)


def _called(scan: Scan, *, needs_r2: bool) -> frozenset[Place]:
    return frozenset(
        site.callee.entry_place
        for site in scan.sites
        if (site.kind is not Kind.NOTOC) == needs_r2 and isinstance(site.callee, Trampoline)
    )


def _relocation_types(
    elf: ElfFile, section: int, trampolines: list[Trampoline]
) -> dict[Trampoline, set[int]]:
    """The types of the relocations on the instructions of each trampoline."""
    table = elf.relocations(section) if section < len(elf.sections) else None
    wanted = _PC_RELATIVE | _OF_OTHER_CODE
    pairs = zip(table.r_offset, table.r_info, strict=True) if table is not None else ()
    placed = [(offset, kind) for offset, info in pairs if (kind := info & 0xFFFFFFFF) in wanted]
    return {
        trampoline: {
            kind
            for offset, kind in placed
            if 0 <= offset - trampoline.value < max(trampoline.size, 4)
        }
        for trampoline in trampolines
    }
