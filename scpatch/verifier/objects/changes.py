"""Instructions that are not what their words say: a linker or the kernel may change them.

A relocation that marks an instruction, or fills in a field of it, lets a linker replace all of it.
GNU ld makes a nop of a branch to a weak symbol without a definition (ppc64_elf_relocate_section).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from scpatch.verifier.objects.insn import base_is_r1
from scpatch.verifier.objects.instructions import Instructions
from scpatch.verifier.objects.patches import Patch, Patches, read_patches
from scpatch.verifier.objects.read import SHF_ALLOC, STB_WEAK, Place, Rela
from scpatch.verifier.objects.relocations import (
    BRANCHES,
    DOUBLEWORDS,
    MARKED_CALLS,
    MARKERS,
    PCREL_OPT,
    REL32,
    TOCSAVE,
)
from scpatch.verifier.objects.variant import NOPS

WORDS = ("__jump_table", "__mcount_loc", "__patchable_function_entries")
"""The kernel patches single instructions that these tables name while it runs: static branches and
calls of ftrace (Linux, kernel/jump_label.c, arch/powerpc/kernel/trace/ftrace.c)."""


@dataclass(frozen=True, eq=False)
class Changes:
    """What may be changed in the code of an object or image. Subclasses read the tables."""

    code: Instructions

    @cached_property
    def patches(self) -> Patches:
        """What the kernel may replace when it starts."""
        return Patches()

    @cached_property
    def patched_alone(self) -> dict[Place, str]:
        """The single instructions that the kernel patches while it runs: by place, the table."""
        return {}

    def may_save(self, place: Place) -> bool:
        """Whether a linker may make `std r2,24(r1)` of a nop."""
        return False

    def unsure(self, place: Place) -> bool:
        """Whether an instruction may be a nop when the code runs."""
        return self.patches.at(place) is not Patch.NONE or self._unsure_alone(place)

    def with_the_word_before(self, place: Place) -> bool:
        """Whether the kernel replaces an instruction only together with the one before it."""
        inside = self.patches.at(place) is not Patch.NONE and place not in self.patches.edges
        return inside and not self._unsure_alone(place)

    def _unsure_alone(self, place: Place) -> bool:
        return place in self.patched_alone

    def unknown(self, place: Place) -> str:
        """Why nothing is known of an instruction; else empty."""
        if self.patches.at(place) is Patch.LOUD:
            return "may be replaced when the kernel starts"
        return ""

    def apart(self, nop: Place) -> str:
        """Why the kernel may patch a call without the nop at `nop` after it, or the nop without the
        call; else empty."""
        if nop in self.patched_alone:
            return f"{self.patched_alone[nop]} names it"
        if nop in self.patches.edges:
            return "a feature section of the kernel starts or ends between the two"
        return ""


@dataclass(frozen=True, eq=False)
class ObjectChanges(Changes):
    """The same for an object, where relocations say what a linker may change."""

    @cached_property
    def patches(self) -> Patches:
        return read_patches(self.code)

    @cached_property
    def patched_alone(self) -> dict[Place, str]:
        image = self.code.image
        tables: dict[Place, str] = {}
        for section in image.sections:
            if section.name not in WORDS or not section.flags & SHF_ALLOC:
                continue
            is_pair = section.name == WORDS[0]
            for rela in image.relocations(section.number):
                place = image.target(rela)
                # Of a static branch the first of two 32-bit words; the second is its target.
                is_target = is_pair and rela.type == REL32 and rela.offset % 16 == 4
                if place is not None and not is_target:
                    tables[place] = section.name
        return tables

    @cached_property
    def _seconds(self) -> dict[Place, Rela]:
        """By place, the second instructions of pairs that a linker may replace."""
        image = self.code.image
        return {
            Place(code.number, rela.offset + rela.addend & ~3): rela
            for code in image.code
            for rela in image.relocations(code.number)
            if rela.type == PCREL_OPT
        }

    def _at(self, place: Place) -> list[Rela]:
        """The relocations on an instruction."""
        relas = self.code.relocations_on(place)
        return [*relas, self._seconds[place]] if place in self._seconds else relas

    def may_save(self, place: Place) -> bool:
        hinted = any(rela.type == TOCSAVE for rela in self._at(place))
        return hinted and self.code.word(place) in NOPS

    def _unsure_alone(self, place: Place) -> bool:
        if super()._unsure_alone(place):
            return True
        if any(self._lets_replace(rela) for rela in self._at(place)):
            return True
        return any(rela.type in (*MARKED_CALLS, *DOUBLEWORDS) for rela in self._at(place.after(-4)))

    def _lets_replace(self, rela: Rela) -> bool:
        if rela.type in BRANCHES and rela.type not in MARKED_CALLS:
            symbol = self.code.image.symbols[rela.symbol]
            return symbol.section == 0 and symbol.binding == STB_WEAK
        return True

    def unknown(self, place: Place) -> str:
        if reason := super().unknown(place):
            return reason
        fields = (rela for rela in self._at(place) if rela.type not in (*MARKERS, *BRANCHES))
        return "is unknown" if base_is_r1(self.code.word(place)) and any(fields) else ""
