"""What the other calls of a function, those of no trampoline, do for its static calls.

Two kinds are of use. A module calls what it does not define through the module loader's stub, which
stores r2 in 24(r1). And a call of a function that the same object or image defines needs no
restore, so the nop after it is free: it can become the save.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Relocation, Symbol
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.variant import clobbers_r2

MCOUNT: Final = "_mcount"
"""Calls of it are patched while the kernel runs, and the module loader puts no restore after them
(is_mprofile_ftrace_call in arch/powerpc/kernel/module_64.c)."""

_RESERVED_OTHER: Final = 7


class OtherCalls(NamedTuple):
    """The rules for one object."""

    elf: ElfFile
    trampolines: Collection[int]
    """The symbols of trampolines and stubs."""
    module: bool
    """The object is a linked kernel module."""
    free: bool
    """No linker will need the nop after the call of a function that the object defines: in a linked
    module nothing is linked any more, and in a kernel nothing preempts a function."""
    image_functions: Collection[str]
    """Names of functions that other objects of the same image define; they preserve r2."""

    def judge(
        self, words: "array[int]", start: int, relocations: Sequence[Relocation]
    ) -> tuple[set[int], set[int]]:
        """The calls through a stub of the module loader, and the nops that nobody needs.

        Such a stub stores r2, and the nop after the call becomes the restore (stub_for_addr and
        restore_r2, module_64.c).
        """
        saving: set[int] = set()
        nops: set[int] = set()
        if self.elf.symbols is None or not (self.module or self.free):
            return saving, nops
        for call, symbol in self._calls(words, start, relocations):
            if self.module and self.elf.symbols.section_index(symbol) == c.SHN_UNDEF:
                saving.add(call)
            if self.free and symbol not in self.trampolines and self._is_kept(symbol):
                nops.add(call + 4)
        return saving, nops

    def _calls(
        self, words: "array[int]", start: int, relocations: Sequence[Relocation]
    ) -> Iterator[tuple[int, int]]:
        """(section offset, symbol) of each `bl` with a nop after it that the symbol directs."""
        symbols = self.elf.symbols
        crowded = _crowded(relocations)
        for item in relocations:
            index, rest = divmod(item.r_offset - start, 4)
            if rest or item.type != relocs.R_PPC64_REL24 or item.r_addend:
                continue
            if item.r_offset in crowded or words[index : index + 2] != _CALL:
                continue
            if symbols and symbols.name(item.symbol) != MCOUNT:
                yield item.r_offset, item.symbol

    def _is_kept(self, symbol: int) -> bool:
        """Whether a call returns with r2 as it was: it reaches the function that the object or the
        image defines."""
        symbols = self.elf.symbols
        assert symbols is not None, "relocations name symbols"
        entry = symbols[symbol]
        if entry.st_shndx == c.SHN_UNDEF and not self.module:
            return entry.binding == c.STB_GLOBAL and symbols.name(symbol) in self.image_functions
        is_fixed = entry.binding in (c.STB_LOCAL, c.STB_GLOBAL)
        return is_fixed and preserves_r2(self.elf, entry, symbols.section_index(symbol))


def preserves_r2(elf: ElfFile, symbol: Symbol, home: int) -> bool:
    """Whether a symbol is a function of the object that returns to its caller with r2 as it was.

    `home` is its section. A section of a group may be discarded for that of another object.
    """
    return (
        symbol.type == c.STT_FUNC
        and home != c.SHN_UNDEF
        and (home < c.SHN_LORESERVE or symbol.st_shndx == c.SHN_XINDEX)
        and not elf.sections[home].sh_flags & c.SHF_GROUP
        and not clobbers_r2(symbol.st_other)
        and symbol.st_other >> 5 != _RESERVED_OTHER
    )


_CALL: Final = array("I", (insn.BL, insn.NOP))


def _crowded(relocations: Iterable[Relocation]) -> set[int]:
    """Offsets of calls with two relocations, or with one on the next word."""
    seen: set[int] = set()
    crowded: set[int] = set()
    for item in relocations:
        word = item.r_offset & ~3
        crowded |= {word, word - 4} if word in seen else {word - 4}
        seen.add(word)
    return crowded
