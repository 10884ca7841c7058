"""How an ELF file writes numbers: its class and byte order. Nothing else in the container knows.

Structures are those of the System V gABI for ELFCLASS64. A column is one field of all entries of a
table; on a machine with the file's byte order it is a view of the file, else a copy.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Final, Literal

ByteOrder = Literal["little", "big"]

_EI_DATA: Final = 5
_ELFDATA2MSB: Final = 2


class Encoding:
    """ELFCLASS64 in one byte order."""

    def __init__(self, byte_order: ByteOrder) -> None:
        self.byte_order = byte_order
        self._mark = "<" if byte_order == "little" else ">"
        self._high = 1 if byte_order == "little" else 0
        """Which half of a 64-bit number is the upper one."""
        self.header = self._struct("HHIQQQIHHHHHH")
        """Elf64_Ehdr after e_ident."""
        self.section = self._struct("IIQQQQIIQQ")
        """Elf64_Shdr."""
        self.symbol = self._struct("IBBHQQ")
        """Elf64_Sym."""
        self.relocation = self._struct("QQq")
        """Elf64_Rela."""
        self.segment = self._struct("IIQQQQQQ")
        """Elf64_Phdr."""
        self.long = self._struct("Q")

    def _struct(self, fields: str) -> struct.Struct:
        return struct.Struct(self._mark + fields)

    def number(self, data: memoryview | bytes) -> int:
        """The unsigned number that `data` is."""
        return int.from_bytes(data, self.byte_order)

    def pack(self, value: int, size: int) -> bytes:
        """An unsigned number of `size` bytes. Raises OverflowError."""
        return value.to_bytes(size, self.byte_order)

    def pack_all(self, code: str, values: list[int]) -> bytes:
        """Numbers of one type of `struct`. Raises struct.error for one that does not fit."""
        return struct.pack(f"{self._mark}{len(values)}{code}", *values)

    def pack_relocation(self, offset: int, symbol: int, kind: int, addend: int) -> bytes:
        return self.relocation.pack(offset, symbol << 32 | kind, addend)

    def column(self, data: memoryview, code: str, first: int = 0, step: int = 1) -> memoryview[int]:
        """Every `step`th number of `data`, from the `first` one on. `code` is the type of `struct`:
        H, I, Q or q; `data` must hold whole numbers of it."""
        if self.byte_order == sys.byteorder:
            numbers: memoryview[int] = data.cast(code)  # type: ignore[call-overload]
            return numbers[first::step]
        swapped = array(code, bytes(data))
        swapped.byteswap()
        return memoryview(swapped)[first::step]

    def upper_halves(self, data: memoryview, first: int, step: int) -> memoryview[int]:
        """As `column` of 64-bit numbers, for their upper 32 bits."""
        return self.column(data, "I", 2 * first + self._high, 2 * step)


LITTLE: Final = Encoding("little")
BIG: Final = Encoding("big")


def encoding_of(data: memoryview) -> Encoding:
    """The encoding that e_ident names; LITTLE if it names none."""
    return BIG if data[_EI_DATA : _EI_DATA + 1] == bytes([_ELFDATA2MSB]) else LITTLE
