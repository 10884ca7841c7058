"""The instruction words of an object, and the relocations that apply to them."""

from __future__ import annotations

import re
import sys
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from scpatch.verifier.objects.insn import target
from scpatch.verifier.objects.read import RELA_SIZE, Image, Place, Rela, Symbol, as_place
from scpatch.verifier.objects.relocations import BRANCHES, REL24, TOCSAVE
from scpatch.verifier.objects.variant import BL, NOP

MCOUNT = "_mcount"
"""The kernel patches calls of it at any time."""
_BRANCH = re.compile(rb"[\x40-\x43\x48-\x4b]")
"""The first byte of the B-form and the I-form, as written: primary opcodes 16 and 18."""


def branches_among(words: array[int]) -> Iterator[int]:
    """Which of the words are branches that name their target."""
    # In memory of this machine, whatever the file's byte order.
    first_bytes = words.tobytes()[3 if sys.byteorder == "little" else 0 :: 4]
    return (match.start() for match in _BRANCH.finditer(first_bytes))


@dataclass(frozen=True, eq=False)
class Instructions:
    """The code of `image`."""

    image: Image

    @cached_property
    def module(self) -> bool:
        """Whether this is a linked kernel module: the module loader is next."""
        return any(s.name == ".gnu.linkonce.this_module" for s in self.image.sections)

    @cached_property
    def _words(self) -> dict[int, array[int]]:
        return {}

    def words(self, section: int) -> array[int]:
        """The instruction words of a section, as 32-bit values."""
        if section not in self._words:
            content = self.image.content(section)
            self._words[section] = self.image.variant.numbers("I", content[: len(content) & ~3])
        return self._words[section]

    def word(self, place: Place) -> int:
        """The instruction word at `place`; 0 (no instruction) outside the section."""
        words, at = self.words(place.section), place.offset // 4
        return words[at] if 0 <= at < len(words) else 0

    def words_at(self, place: Place, count: int) -> tuple[int, ...]:
        """So many words from `place` on."""
        return tuple(self.word(place.after(4 * number)) for number in range(count))

    def branches_into(self, section: int, places: Collection[int]) -> Iterator[tuple[int, int]]:
        """(branch, target) of the branches of a section to `places`, by their words: an assembler
        that knows the distance of two places writes it into the branch. All are section offsets. A
        branch with a relocation looks like a branch to itself."""
        for branch, to in self.word_branches(section):
            if to in places and to != branch:
                yield branch, to

    def word_branches(self, section: int) -> list[tuple[int, int]]:
        """(branch, target) of all branches of a section that name their target, by their words."""
        if section not in self._word_branches:
            words = self.words(section)
            pairs = ((4 * at, target(words[at], 4 * at)) for at in branches_among(words))
            self._word_branches[section] = [(at, to) for at, to in pairs if to is not None]
        return self._word_branches[section]

    @cached_property
    def _word_branches(self) -> dict[int, list[tuple[int, int]]]:
        return {}

    @cached_property
    def branches(self) -> dict[Place, tuple[Rela, Place]]:
        """Every branch relocation on code, by where it applies, with the place of its record."""
        return {
            as_place((code.number, rela.offset)): (rela, as_place((table, entry * RELA_SIZE)))
            for code in self.image.code
            for table in self.image.rela_sections.get(code.number, ())
            for entry, rela in enumerate(self.image.relas(table))
            if rela.type in BRANCHES
        }

    @cached_property
    def other_relocations(self) -> frozenset[Place]:
        """The words of code that other relocations than branches apply to, except TOCSAVE, which
        only hints. A field may begin within its word."""
        return frozenset(
            as_place((code.number, rela.offset & ~3))
            for code in self.image.code
            for rela in self.image.relocations(code.number)
            if rela.type not in BRANCHES and rela.type not in (0, TOCSAVE)
        )

    def is_relocated(self, place: Place) -> bool:
        """Whether a relocation changes the word at `place`."""
        return place in self.branches or place in self.other_relocations

    @cached_property
    def relocated_words(self) -> dict[Place, int]:
        """How many relocations apply to each word of code, including those that only hint."""
        return Counter(
            as_place((code.number, rela.offset & ~3))
            for code in self.image.code
            for rela in self.image.relocations(code.number)
            if rela.type
        )

    def relocations_at(self, place: Place, size: int) -> list[tuple[Place, Rela]]:
        """The relocations on `size` bytes of code, with the place of each record."""
        end = min(place.offset + size, self.image.sections[place.section].size)
        return [
            (Place(table, entry * RELA_SIZE), self.image.relas(table)[entry])
            for offset in range(place.offset, end)
            for table in self.image.rela_sections.get(place.section, ())
            for entry in self._entries(table).get(offset, ())
        ]

    def _entries(self, table: int) -> dict[int, list[int]]:
        """The entries of a table of relocations, by the offset that each applies to."""
        if table not in self._entries_of:
            entries: dict[int, list[int]] = {}
            for entry, rela in enumerate(self.image.relas(table)):
                entries.setdefault(rela.offset, []).append(entry)
            self._entries_of[table] = entries
        return self._entries_of[table]

    @cached_property
    def _entries_of(self) -> dict[int, dict[int, list[int]]]:
        return {}

    def plain_call(self, place: Place) -> Symbol | None:
        """The symbol that a `bl` followed by a nop calls, if nothing else applies to the two."""
        following = place.after(4)
        if place not in self.branches or self.word(place) != BL:
            return None
        rela, _ = self.branches[place]
        alone = self.relocated_words[place] == 1 and following not in self.relocated_words
        if rela.type != REL24 or rela.addend or not alone:
            return None
        return self.image.symbols[rela.symbol]

    def by_loader(self, place: Place) -> bool:
        """Whether the module loader makes a stub for the call, which stores r2 in 24(r1), and a
        restore of the nop after it (Linux, arch/powerpc/kernel/module_64.c)."""
        if not self.module or self.word(place.after(4)) != NOP:
            return False
        symbol = self.plain_call(place)
        return symbol is not None and symbol.name != MCOUNT and symbol.section == 0
