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
        self.half = 0 if byte_order == "little" else 2
        """Where in a 32-bit number its lower 16 bits are, in bytes."""
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

    def word(self, data: bytes | memoryview, offset: int) -> int:
        """The 32-bit number, such as an instruction, at an offset in `data`, which must hold it
        whole."""
        return int.from_bytes(data[offset : offset + 4], self.byte_order)

    def words(self, data: bytes | memoryview) -> array[int]:
        """The 32-bit numbers of `data`, without the bytes of a last one that is not whole."""
        words = array("I", bytes(data[: len(data) // 4 * 4]))
        if self.byte_order != sys.byteorder:
            words.byteswap()
        return words

    def byte_of_words(self, data: bytes, number: int) -> bytes:
        """One byte of each 32-bit number of `data`: number 0 is the most significant one."""
        return data[number if self.byte_order == "big" else 3 - number :: 4]

    def pack_words(self, *words: int) -> bytes:
        """32-bit numbers, such as the instructions of some code."""
        return b"".join([word.to_bytes(4, self.byte_order) for word in words])

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
        H, h, I, Q or q; `data` must hold whole numbers of it."""
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
