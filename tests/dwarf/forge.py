"""Line tables byte by byte, for what no compiler writes."""

from __future__ import annotations

from dataclasses import dataclass, field

from scpatch.elf.reader import ElfFile
from tests import elfwriter as w

TEXT = 1
"""Section index of .text in `forged`."""

LENGTHS = bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
FILES_4 = b"lib\0\0" + b"a.c\0\1\0\0" + b"b.c\0\0\0\0" + b"\0"
FILES_5 = b"\1\1\x08\2/comp\0lib\0" + b"\2\1\x08\2\x0b\2a.c\0\1b.c\0\0"
SET_ADDRESS = b"\0\x09\2" + bytes(8)
END = b"\0\1\1"


def special(words: int, lines: int) -> bytes:
    """The special opcode that advances by instruction words and by lines (line_base -5)."""
    return bytes([13 + 14 * words + lines + 5])


@dataclass(frozen=True, kw_only=True)
class Table:
    """A .debug_line of one unit; every SET_ADDRESS in it is relocated in turn by `addresses`."""

    version: int = 4
    program: bytes
    addresses: tuple[int, ...] = (0,)
    """Section offsets in .text."""
    files: bytes | None = None
    lengths: bytes = LENGTHS
    unit_length: int | None = None
    header_length: int | None = None
    more: tuple[w.Relocation, ...] = field(default=())

    def build(self) -> tuple[bytes, list[w.Relocation]]:
        files = self.files if self.files is not None else FILES_5 if self.version > 4 else FILES_4
        fixed = b"\4" + (b"\1" if self.version >= 4 else b"") + b"\1\xfb\x0e"
        tail = fixed + bytes([len(self.lengths) + 1]) + self.lengths + files
        length = len(tail) if self.header_length is None else self.header_length
        head = self.version.to_bytes(2, "little") + (b"\x08\0" if self.version > 4 else b"")
        body = head + length.to_bytes(4, "little") + tail + self.program
        size = len(body) if self.unit_length is None else self.unit_length
        data = size.to_bytes(4, "little") + body
        relocations, at = [*self.more], len(data) - len(self.program)
        for address in self.addresses:
            at = data.index(SET_ADDRESS, at) + 3
            relocations.append(
                w.Relocation(offset=at, type=w.R_PPC64_ADDR64, symbol=".text", addend=address)
            )
        return data, relocations


def forged(table: Table, *more: w.Section, flags: int = 0) -> ElfFile:
    """An object with 4 KiB of .text and the line table."""
    data, relocations = table.build()
    code = w.Section(
        name=".text", flags=w.SHF_ALLOC | w.SHF_EXECINSTR, data=bytes(4096), addralign=4
    )
    lines = w.Section(name=".debug_line", flags=flags, data=data, relocations=relocations)
    names = [".text", *(section.name for section in more)]
    symbols = [w.Symbol(type=w.STT_SECTION, section=name) for name in names]
    elf = w.Elf(sections=[code, lines, *more], symbols=symbols)
    return ElfFile(memoryview(w.build(elf)), "forged.o")
