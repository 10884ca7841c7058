"""Where control may come from to an instruction: branches, tables, names, addresses taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from scpatch.verify.proof.calls import BRANCHES, TOCSAVE, Calls
from scpatch.verify.proof.insn import target
from scpatch.verify.proof.livepatch import Keepers
from scpatch.verify.proof.read import SHF_ALLOC, STT_FILE, STT_SECTION, Place, Symbol

_MARKS = (
    *("__bug_table", "__mcount_loc", "__patchable_function_entries", "__ftr_fixup"),
    *("__mmu_ftr_fixup", "__fw_ftr_fixup", "__lwsync_fixup", "__barrier_nospec_fixup"),
    *("__stf_entry_barrier_fixup", "__stf_exit_barrier_fixup", "__entry_flush_fixup"),
    *("__scv_entry_flush_fixup", "__uaccess_flush_fixup", "__rfi_flush_fixup", "__btb_flush_fixup"),
    *("__spec_barrier_fixup", "__soft_mask_table", ".discard", ".eh_frame", ".static_call_sites"),
)
"""Sections whose entries mark instructions; nothing ever jumps to what they name (Linux,
arch/powerpc/include/asm/feature-fixups.h, bug.h; scripts/recordmcount.c)."""

_PAIRS = {"__ex_table": 8, "__jump_table": 16}
"""Tables of entries that begin with two 32-bit words, an instruction and where control goes from
it: when it faults, or when a static branch is switched on. By section name, the size of an entry in
bytes (Linux, arch/powerpc/include/asm/extable.h and jump_label.h)."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Where control may come from, for all code of one object."""

    calls: Calls
    _branches: dict[int, dict[int, list[int]]] = field(default_factory=dict, repr=False)

    def branches_to(self, section: int) -> dict[int, list[int]]:
        """Branches of a section without relocation, by the section offset of their target."""
        if section not in self._branches:
            found: dict[int, list[int]] = {}
            for at, word in enumerate(self.calls.words(section)):
                if word >> 26 in (16, 18) and Place(section, at * 4) not in self.calls.branches:
                    to = target(word, at * 4)
                    if to is not None:
                        found.setdefault(to, []).append(at * 4)
            self._branches[section] = found
        return self._branches[section]

    @cached_property
    def keepers(self) -> Keepers:
        """The trampolines that keep r2."""
        return Keepers(self.calls)

    @cached_property
    def relocated(self) -> dict[Place, list[Place]]:
        """Branches with a relocation, by their target."""
        found: dict[Place, list[Place]] = {}
        for source, (rela, _) in self.calls.branches.items():
            place = self.calls.image.target(rela)
            if place is not None:
                found.setdefault(place, []).append(source)
        return found

    @cached_property
    def taken(self) -> dict[Place, str]:
        """Addresses in code that other relocations take: by place, the section that takes it."""
        image = self.calls.image
        code = {section.number for section in image.code}
        found: dict[Place, str] = {}
        for section in image.sections:
            if not section.flags & SHF_ALLOC or section.name.startswith((*_MARKS, *_PAIRS)):
                continue
            seen_elsewhere = BRANCHES if section.number in code else frozenset[int]()
            for table in image.rela_sections.get(section.number, ()):
                for rela in image.relas(table):
                    if rela.type in seen_elsewhere or rela.type in (0, TOCSAVE):
                        continue
                    place = image.target(rela)
                    if place is not None and place.section in code:
                        found.setdefault(place, section.name)
        return found

    @cached_property
    def named(self) -> dict[Place, str]:
        """Places in code that the sections passed over by `taken` name: by place, the section.

        Of several the one that tells the kernel what to patch when it starts.
        """
        image = self.calls.image
        found: dict[Place, str] = {}
        for section in image.sections:
            if not section.flags & SHF_ALLOC or not section.name.startswith((*_MARKS, *_PAIRS)):
                continue
            for table in image.rela_sections.get(section.number, ()):
                for rela in image.relas(table):
                    place = image.target(rela)
                    if place is not None and "_fixup" not in found.get(place, ""):
                        found[place] = section.name
        return found

    @cached_property
    def patched(self) -> dict[int, list[int]]:
        """By code section, the sorted section offsets that the kernel's tables of patches name."""
        found: dict[int, list[int]] = {}
        for place, name in sorted(self.named.items()):
            if "_fixup" in name:
                found.setdefault(place.section, []).append(place.offset)
        return found

    @cached_property
    def paired(self) -> dict[Place, list[Place]]:
        """Where `_PAIRS` tables lead: by the place that control goes to, the instructions that it
        comes from."""
        image = self.calls.image
        found: dict[Place, list[Place]] = {}
        for section in image.sections:
            size = next((n for name, n in _PAIRS.items() if section.name.startswith(name)), 0)
            if not size or not section.flags & SHF_ALLOC:
                continue
            for table in image.rela_sections.get(section.number, ()):
                at = {rela.offset: image.target(rela) for rela in image.relas(table)}
                for offset, place in at.items():
                    source = at.get(offset - 4)
                    if offset % size == 4 and place is not None:
                        found.setdefault(place, []).append(source or Place(0, 0))
        return found

    @cached_property
    def labels(self) -> dict[Place, list[Symbol]]:
        """The symbols in code, by place."""
        found: dict[Place, list[Symbol]] = {}
        for symbol in self.calls.image.symbols:
            if symbol.section > 0 and symbol.type not in (STT_SECTION, STT_FILE):
                found.setdefault(Place(symbol.section, symbol.value), []).append(symbol)
        return found

    def into(self, place: Place) -> Iterator[Place]:
        """The branches to `place`, with and without relocation."""
        for source in self.branches_to(place.section).get(place.offset, ()):
            yield Place(place.section, source)
        yield from self.relocated.get(place, ())
        yield from self.paired.get(place, ())

    def from_elsewhere(self, place: Place) -> str:
        """Why control may come to `place` unseen: its address is taken, or it has a name."""
        if place in self.taken:
            return f"its address is taken in {self.taken[place]}"
        if place in self.labels:
            return f"it is the label {self.labels[place][0].name}"
        return ""

    def entered(self, place: Place) -> str:
        """How control may come to `place` other than from the instruction before it; else empty."""
        for source in self.into(place):
            return f"{self.calls.image.where(source)} branches to it"
        return self.from_elsewhere(place)
