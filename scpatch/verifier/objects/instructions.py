"""The instruction words of an object, and the relocations that apply to them."""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, count, repeat
from operator import add

from scpatch.verifier.objects.insn import distance
from scpatch.verifier.objects.read import (
    RELA_SIZE,
    Image,
    Place,
    Rela,
    Symbol,
    as_place,
    offset_of,
    type_of,
)
from scpatch.verifier.objects.relocations import BRANCHES, NONE, REL24, TOCSAVE
from scpatch.verifier.objects.variant import BL, NOP

MCOUNT = "_mcount"
"""The kernel patches calls of it at any time."""
_BRANCH = re.compile(rb"[\x40-\x43\x48-\x4b]")
"""The first byte of the B-form and the I-form, as written: primary opcodes 16 and 18."""


def branches_among(words: array[int]) -> Iterator[int]:
    """Which of the words are branches that name their target."""
    # In memory of this machine, whatever the file's byte order.
    first_bytes = words.tobytes()[3 if sys.byteorder == "little" else 0 :: 4]
    return map(re.Match.start, _BRANCH.finditer(first_bytes))


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
            branches = [at for at in branches_among(words) if distance(words[at]) is not None]
            offsets = [4 * at for at in branches]
            distances = map(distance, map(words.__getitem__, branches))
            targets = map(add, offsets, distances)
            self._word_branches[section] = [*zip(offsets, targets, strict=True)]
        return self._word_branches[section]

    @cached_property
    def _word_branches(self) -> dict[int, list[tuple[int, int]]]:
        return {}

    @cached_property
    def branches(self) -> dict[Place, tuple[Rela, Place]]:
        """Every branch relocation on code, by where it applies, with the place of its record."""
        branches: dict[Place, tuple[Rela, Place]] = {}
        for code in self.image.code:
            for table in self.image.rela_sections.get(code.number, ()):
                all_relas = self.image.relas(table)
                are_branches = [*map(BRANCHES.__contains__, map(type_of, all_relas))]
                relas = [*compress(all_relas, are_branches)]
                records = zip(repeat(table), compress(count(0, RELA_SIZE), are_branches))
                places = zip(repeat(code.number), map(offset_of, relas))
                entries = zip(relas, map(as_place, records), strict=True)
                branches.update(zip(map(as_place, places), entries, strict=True))
        return branches

    def relocations_on(self, place: Place) -> list[Rela]:
        """The relocations that apply to the word at `place`, including those that only hint. A
        field may begin within its word."""
        if place.section not in self._by_word:
            by_word: dict[int, list[Rela]] = {}
            for rela in self.image.relocations(place.section):
                if rela.type != NONE:
                    by_word.setdefault(rela.offset & ~3, []).append(rela)
            self._by_word[place.section] = by_word
        return self._by_word[place.section].get(place.offset, [])

    @cached_property
    def _by_word(self) -> dict[int, dict[int, list[Rela]]]:
        return {}

    def fields_in(self, place: Place) -> list[Rela]:
        """The relocations that change the word at `place`. TOCSAVE only hints."""
        return [rela for rela in self.relocations_on(place) if rela.type != TOCSAVE]

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
        if place not in self.branches or self.word(place) != BL:
            return None
        rela, _ = self.branches[place]
        alone = len(self.relocations_on(place)) == 1 and not self.relocations_on(place.after(4))
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
