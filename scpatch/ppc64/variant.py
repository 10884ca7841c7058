"""The variant of the ABI that objects are in: 64-bit ELFv2, of either byte order, as Linux uses it.

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

Byte order
    Little-endian and big-endian ELFv2 differ in the order of bytes and in nothing else. Instruction
    words have that of the file's fields, so `scpatch.elf.encoding` reads and writes both. A
    relocation of 16 bits is at the lower half of its word: two bytes into the word if the file is
    big-endian. Slot, entry points and instructions are the same.

Other variants
    ELFv1, which big-endian Linux used before, has the slot at 40(r1), and function descriptors in
    place of entry points. `scpatch.files` refuses it.

Source: 64-Bit ELF V2 ABI Specification: register usage, TOC pointer save area, symbol values and
st_other, function calls. 64-bit PowerPC ELF ABI Supplement 1.9 for ELFv1.
"""

from __future__ import annotations

from typing import Final

EM_PPC64: Final = 21
EF_PPC64_ABI: Final = 3
"""The bits of e_flags that hold the ABI version; 0 says nothing."""


TOC_SAVE: Final = 24
"""Offset of the TOC save doubleword from r1, in bytes."""
SAVE_R2: Final = 0xF8410000 | TOC_SAVE
"""`std r2,24(r1)`, a 32-bit value as in a listing."""
RESTORE_R2: Final = 0xE8410000 | TOC_SAVE
"""`ld r2,24(r1)`"""


NAMES: Final = {"little": "ppc64le", "big": "ppc64"}
"""What Linux calls the machine, by the byte order of the file (`uname -m`)."""


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
