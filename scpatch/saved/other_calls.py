"""What the other calls of a function, those of no trampoline, do for the static calls behind them.

Two kinds are of use. A module calls what it does not define through the loader's stub, which stores
r2 in 24(r1). And behind a call of a function that the same object defines, which needs no
restore, the nop is free: it can become the save.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile, Relocation
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.variant import VARIANT, clobbers_r2

MCOUNT: Final = "_mcount"
"""Calls of it are patched while the kernel runs, and the module loader makes no restore behind them
(is_mprofile_ftrace_call in arch/powerpc/kernel/module_64.c)."""

_RESERVED_OTHER: Final = 7


class OtherCalls:
    """Judges the calls of one object."""

    def __init__(
        self, elf: ElfFile, trampolines: Collection[int], *, module: bool, free: bool
    ) -> None:
        """`trampolines` are the symbols of trampolines and stubs. `free` says that no linker will
        need the nop behind the call of a function that the object defines: in a linked module
        nothing is linked any more, and in a kernel nothing preempts a function."""
        self._elf = elf
        self._trampolines = trampolines
        self._module = module
        self._free = free

    def saving(self, code: bytes, start: int, relocations: Sequence[Relocation]) -> set[int]:
        """Calls through a stub of the module loader. It stores r2 on the way, and the nop behind
        the call becomes the restore (stub_for_addr and restore_r2, module_64.c)."""
        if not self._module:
            return set()
        return {
            at for at, symbol in self._calls(code, start, relocations) if not self._home(symbol)
        }

    def free_nops(self, code: bytes, start: int, relocations: Sequence[Relocation]) -> set[int]:
        """Nops behind calls, which nobody needs."""
        if not self._free:
            return set()
        return {
            at + 4
            for at, symbol in self._calls(code, start, relocations)
            if symbol not in self._trampolines and self._gives_r2_back(symbol)
        }

    def _calls(
        self, code: bytes, start: int, relocations: Sequence[Relocation]
    ) -> Iterator[tuple[int, int]]:
        """(section offset, symbol) of each `bl` with a nop behind it that the symbol directs."""
        symbols = self._elf.symbols
        crowded = _crowded(relocations)
        for one in relocations:
            at = one.r_offset - start
            if one.type != relocs.R_PPC64_REL24 or one.r_addend or one.r_offset in crowded:
                continue
            if code[at : at + 8] == _CALL and symbols and symbols.name(one.symbol) != MCOUNT:
                yield one.r_offset, one.symbol

    def _home(self, symbol: int) -> int:
        """The section of a symbol; SHN_UNDEF for what the module loader looks for."""
        assert self._elf.symbols is not None
        return self._elf.symbols.section_index(symbol)

    def _gives_r2_back(self, symbol: int) -> bool:
        """Whether a call stays with the function that the object defines, and comes back with r2
        as it was."""
        assert self._elf.symbols is not None
        one, home = self._elf.symbols[symbol], self._home(symbol)
        return (
            home != c.SHN_UNDEF
            and (home < c.SHN_LORESERVE or one.st_shndx == c.SHN_XINDEX)
            and one.type == c.STT_FUNC
            and one.binding in (c.STB_LOCAL, c.STB_GLOBAL)
            and not self._elf.sections[home].sh_flags & c.SHF_GROUP
            and not clobbers_r2(one.st_other)
            and one.st_other >> 5 != _RESERVED_OTHER
        )


_CALL: Final = VARIANT.encode(insn.BL, insn.NOP)


def _crowded(relocations: Iterable[Relocation]) -> set[int]:
    """Offsets of calls that are relocated twice, or with a relocation on the word behind."""
    seen: set[int] = set()
    found: set[int] = set()
    for one in relocations:
        word = one.r_offset & ~3
        found |= {word, word - 4} if word in seen else {word - 4}
        seen.add(word)
    return found
