"""The machine, in the verifier's own words: 64-bit PowerPC with the ELFv2 ABI.

`Variant` has what depends on a file's byte order. All else holds for both: stack frame, entry
points and the instruction words that the proof compares whole, as 32-bit values (Power ISA, Book
I).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from operator import itemgetter
from struct import Struct
from typing import Final, Literal, NamedTuple

from scpatch.verifier.tools import ByteOrder


class Variant(NamedTuple):
    """How a file writes numbers."""

    byte_order: ByteOrder
    mark: str
    """The byte order for `struct`."""
    ident: bytes
    """How such a file begins: ELFCLASS64, EI_DATA, EV_CURRENT."""
    low_half: int
    """Where in an instruction its low 16 bits are, in bytes: the field that most relocations of
    instructions apply to."""
    symbol_half: range
    """The bytes of r_info that hold the symbol; the type is in the others (gABI, ELF64_R_INFO)."""
    rela: Struct
    """Elf64_Rela, with r_info as two numbers."""
    rela_fields: itemgetter[tuple[int, int, int, int]] | None
    """Of `rela`, the numbers that are offset, type, symbol and addend; None: they are in order."""

    def struct(self, fields: str) -> Struct:
        return Struct(self.mark + fields)

    def number(self, data: bytes) -> int:
        """The unsigned number that `data` is."""
        return int.from_bytes(data, self.byte_order)

    def relocations(self, table: bytes) -> Iterator[tuple[int, ...]]:
        """Offset, type, symbol and addend of each relocation in a table."""
        records = self.rela.iter_unpack(table)
        return records if self.rela_fields is None else map(self.rela_fields, records)

    def numbers(self, kind: Literal["I", "Q"], data: bytes) -> array[int]:
        """The 32-bit or 64-bit numbers that `data` is."""
        numbers = array(kind, data)
        if self.byte_order != sys.byteorder:
            numbers.byteswap()
        return numbers


LITTLE: Final = Variant(
    "little", "<", b"\x7fELF\x02\x01\x01", 0, range(4, 8), Struct("<QIIq"), None
)
BIG: Final = Variant(
    "big", ">", b"\x7fELF\x02\x02\x01", 2, range(4), Struct(">QIIq"), itemgetter(0, 2, 1, 3)
)


def variant_of(data: bytes) -> Variant | None:
    """The variant of a file that begins with `data`; None if it is no ELF64 file."""
    return next((variant for variant in (LITTLE, BIG) if data[:7] == variant.ident), None)


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
