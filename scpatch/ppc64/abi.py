"""The ELFv2 ABI as far as static calls touch it.

r2 and the TOC
    Code reaches its data through the *TOC pointer* in r2. Every linked unit has a TOC of its own:
    the kernel one, each module one, an executable and each shared object one. Inside a unit r2
    is the same everywhere, so a call within it need not care.

Two entry points
    A function that uses r2 has a *global entry point*, which computes r2 from r12 (the caller has
    put the function's address there), and behind those two instructions a *local entry point* for
    callers whose r2 is right already. Bits 5-7 of the symbol's st_other tell them apart:
    0: one entry, r2 is preserved; 1: one entry, r2 is not preserved; 2 to 6: the local entry lies
    4, 8, 16, 32 or 64 bytes behind the global one; 7 is reserved.

The TOC save doubleword
    A caller that leaves its unit comes back with a foreign r2. The ABI reserves the doubleword at
    24(r1) of the caller's frame for that: r2 is stored there before the call, and the compiler
    leaves a `nop` behind every `bl` that may leave the unit, for the linker to turn into
    `ld r2,24(r1)`.

Why static calls break it
    `bl __SCT__x` names a trampoline in the caller's own unit, so that neither compiler nor linker
    sees a reason to save r2 or to fill the nop. At run time the kernel patches the trampoline to
    branch to a function that may live in another unit. It returns straight to the call site, with
    its own r2.

Source: 64-Bit ELF V2 ABI Specification, on register usage, the TOC pointer save area in the stack
frame, symbol values and st_other, and function calls.
"""

from __future__ import annotations

from typing import Final

EM_PPC64: Final = 21
EF_PPC64_ABI: Final = 3
"""The bits of e_flags that hold the ABI version; 0 says nothing."""

TOC_SAVE: Final = 24
"""Offset of the TOC save doubleword from r1, in bytes."""

BRANCH_REACH: Final = 1 << 25
"""An I-form branch reaches from -32 MiB up to 32 MiB - 4."""


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


def in_branch_reach(distance: int) -> bool:
    """Whether an I-form branch (`b`, `bl`) reaches over `distance` bytes."""
    return -BRANCH_REACH <= distance < BRANCH_REACH
