"""The machine, in the verifier's own words: ppc64le with the ELFv2 ABI.

Byte order, stack frame, entry points and the instruction words that the proof compares whole. The
words are 32-bit values, so that they do not depend on the byte order (Power ISA, Book I).
"""

from __future__ import annotations

from typing import Final, Literal

BYTE_ORDER: Final[Literal["little", "big"]] = "little"
STRUCT: Final = "<"
"""The byte order for `struct`."""
IDENT: Final = b"\x7fELF\x02\x01\x01"
"""How such a file begins: ELFCLASS64, ELFDATA2LSB, EV_CURRENT."""
MACHINE: Final = 21
"""EM_PPC64"""

TOC_SLOT: Final = 24
"""The TOC save doubleword: 24(r1) (ELFv2 ABI, stack frame organization)."""
FRAME_HEADER: Final = 32
"""The bytes of the smallest frame that has one."""
LOCAL_ENTRY: Final = (0, 0, 4, 8, 16, 32, 64, 0)
"""Distance of the local entry point in bytes, by st_other bits 5-7 (ELFv2 ABI, st_other)."""

NOP: Final = 0x60000000
NOPS: Final = frozenset((NOP, 0x4DEF7B82, 0x4FFFFB82))
"""`nop`, `cror 15,15,15` and `cror 31,31,31`: what GNU ld takes for a nop after a call."""
BL, B = 0x48000001, 0x48000000
STD_R2, LD_R2 = 0xF8410000 | TOC_SLOT, 0xE8410000 | TOC_SLOT
MTCTR_R12, BCTR = 0x7D8903A6, 0x4E800420
REACH: Final = 1 << 25
"""A REL24 branch reaches -REACH .. REACH - 4 bytes (Power ISA, I-form: a signed 26-bit field)."""
_DISTANCE: Final = 0x3FFFFFC


def without_distance(word: int) -> int:
    """An I-form branch without the field that says how far it goes: `B` or `BL`."""
    return word & ~_DISTANCE


def is_in_reach(source: int, destination: int) -> bool:
    """Whether a branch reaches from one section offset to another."""
    return -REACH <= destination - source < REACH
