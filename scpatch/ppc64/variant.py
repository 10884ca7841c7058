"""The variant of the ABI that objects are in: little-endian 64-bit ELFv2, as Linux uses it.

r2 and the TOC
    Code reaches its data through the *TOC pointer* in r2. The kernel has one TOC, and each module,
    executable and shared object has its own. A call to code with the same TOC need not save r2.

The TOC save doubleword
    A call to code with another TOC returns with that TOC in r2. The caller's frame has a doubleword
    for this at 24(r1): r2 is stored there before the call. The compiler leaves a `nop` after each
    `bl` that may need it, and the linker turns that into `ld r2,24(r1)`.

Two entry points
    A function that uses r2 computes it from r12 at its *global entry point*; the caller has put the
    function's address there. Two instructions later, at its *local entry point*, r2 must be right
    already. Bits 5-7 of st_other say which a symbol has. 0: one entry, r2 is preserved. 1: one
    entry, r2 is not preserved. 2 to 6: the local entry is 4, 8, 16, 32 or 64 bytes after the global
    one. 7 is reserved.

Why static calls break it
    `bl __SCT__x` names a trampoline with the caller's TOC, so neither compiler nor linker saves r2.
    At run time the kernel patches the trampoline to branch to its target. A target with another TOC
    returns straight to the call site, and its TOC is still in r2.

What other variants change
    Big-endian ELFv2 changes the order of bytes and nothing else: that of instruction words, which
    follows the file's, and that of the file's fields (`scpatch.elf`). Slot, entry points and
    instructions stay. ELFv1 has more: the slot is at 40(r1), and functions have descriptors in
    place of entry points.

Source: 64-Bit ELF V2 ABI Specification: register usage, TOC pointer save area, symbol values and
st_other, function calls. 64-bit PowerPC ELF ABI Supplement 1.9 for ELFv1.
"""

from __future__ import annotations

import sys
from array import array
from typing import Final, Literal, NamedTuple

EM_PPC64: Final = 21
EF_PPC64_ABI: Final = 3
"""The bits of e_flags that hold the ABI version; 0 says nothing."""


class Variant(NamedTuple):
    """What differs between variants. Instructions are 32-bit values, as in a listing."""

    byte_order: Literal["little", "big"]
    """The byte order of instruction words."""
    toc_save: int
    """Offset of the TOC save doubleword from r1, in bytes."""
    save_r2: int
    """`std r2,24(r1)`"""
    restore_r2: int
    """`ld r2,24(r1)`"""

    def word(self, code: bytes | memoryview, offset: int) -> int:
        """The instruction at an offset in `code`, which must hold it whole."""
        return int.from_bytes(code[offset : offset + 4], self.byte_order)

    def words(self, code: bytes | memoryview) -> array[int]:
        """The instructions of `code`, without the bytes of a last one that is not whole."""
        words = array("I", bytes(code[: len(code) // 4 * 4]))
        if self.byte_order != sys.byteorder:
            words.byteswap()
        return words

    def column(self, code: bytes, number: int) -> bytes:
        """One byte of each instruction of `code`: number 0 is the byte with the opcode."""
        return code[number if self.byte_order == "big" else 3 - number :: 4]

    def encode(self, *words: int) -> bytes:
        """The code of some instructions."""
        return b"".join([word.to_bytes(4, self.byte_order) for word in words])


def _variant(byte_order: Literal["little", "big"], toc_save: int) -> Variant:
    std, ld, r2, r1 = 62 << 26, 58 << 26, 2 << 21, 1 << 16
    return Variant(byte_order, toc_save, std | r2 | r1 | toc_save, ld | r2 | r1 | toc_save)


VARIANT: Final = _variant("little", 24)
"""The only variant so far: `scpatch.files` refuses files of any other."""


def local_entry_offset(st_other: int) -> int:
    """Bytes from the global to the local entry point (psABI 3.4.1)."""
    code = st_other >> 5
    return 1 << code if 2 <= code <= 6 else 0


def clobbers_r2(st_other: int) -> bool:
    """Whether the symbol's function has one entry point and does not preserve r2."""
    return st_other >> 5 == 1


def without_local_entry(st_other: int) -> int:
    """The same for a function with one entry point that does not preserve r2."""
    return st_other & 0x1F | 1 << 5


def with_one_entry(st_other: int) -> int:
    """The same for a function with one entry point."""
    return st_other & 0x1F
