"""DWARF 5 for the generated objects: true enough for readelf and addr2line, and as heavy as gcc's.

Two kinds of compilation unit. A *code unit* describes one unit of .text: its functions, its line
table and its address ranges. A *type unit* only declares types, and makes the bulk,
as in a kernel. Each kind is made once and repeated; its relocations differ from one unit to the
next by a fixed step (`Fixup.moves`). The constants are those of the DWARF 5 standard.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench.code import Block, Fixup
from tests.elfwriter import R_PPC64_ADDR32, R_PPC64_ADDR64

ADDR, DATA1, DATA2, DATA8, STRING = 0x01, 0x0B, 0x05, 0x07, 0x08
STRP, REF4, SEC_OFFSET, FLAG, LINE_STRP, UDATA = 0x0E, 0x13, 0x17, 0x19, 0x1F, 0x0F
CODE_UNIT, SUBPROGRAM, TYPE_UNIT, BASE_TYPE, TYPEDEF, POINTER = 1, 2, 3, 4, 5, 6
# Of each abbreviation the tag, whether it has children, and (attribute, form) pairs.
ABBREVS: dict[int, tuple[int, int, list[tuple[int, int]]]] = {
    CODE_UNIT: (
        *(0x11, 1),
        [
            (0x25, STRP),
            (0x13, DATA1),
            (0x03, STRP),
            (0x11, ADDR),
            (0x12, DATA8),
            (0x10, SEC_OFFSET),
        ],
    ),
    SUBPROGRAM: (
        *(0x2E, 0),
        [(0x3F, FLAG), (0x03, STRP), (0x3A, DATA1), (0x3B, DATA2), (0x11, ADDR), (0x12, DATA8)],
    ),
    TYPE_UNIT: (0x11, 1, [(0x25, STRP), (0x13, DATA1), (0x03, STRP)]),
    BASE_TYPE: (0x24, 0, [(0x0B, DATA1), (0x3E, DATA1), (0x03, STRING)]),
    TYPEDEF: (0x16, 0, [(0x03, STRP), (0x3A, DATA1), (0x3B, DATA2), (0x49, REF4)]),
    POINTER: (0x0F, 0, [(0x0B, DATA1), (0x49, REF4)]),
}
C11 = 0x1D
PRODUCER, UNIT_NAME = b"GNU C11 12.2.0 -O2 -g\0", b"unit.c\0"
SAME_LINE = 13 + 14 + 5  # the special opcode that goes on by one instruction and no line
LINE_STRINGS = b"/usr/src/linux\0unit.c\0"


@dataclass(slots=True)
class Piece:
    """Bytes in the making with their relocations."""

    data: bytearray = field(default_factory=bytearray)
    fixups: list[Fixup] = field(default_factory=list)

    def put(self, form: str, *values: int | bytes) -> None:
        self.data += struct.pack("<" + form, *values)

    def ref32(self, section: str, addend: int, moves: int = 0) -> None:
        """Four bytes that a linker fills with a position in another debug section."""
        self.fixups.append(Fixup(len(self.data), R_PPC64_ADDR32, section, addend, moves))
        self.data += bytes(4)

    def address(self, section: str, addend: int, moves: int = 0) -> None:
        self.fixups.append(Fixup(len(self.data), R_PPC64_ADDR64, section, addend, moves))
        self.data += bytes(8)

    def counted(self, fill: Callable[["Piece"], None]) -> None:
        """What `fill` writes, preceded by its length in four bytes (a unit_length)."""
        start = len(self.data)
        self.put("I", 0)
        fill(self)
        struct.pack_into("<I", self.data, start, len(self.data) - start - 4)


def abbreviations() -> bytes:
    """.debug_abbrev, one table for all units."""
    out = bytearray()
    for number, (tag, children, attributes) in ABBREVS.items():
        out += bytes([number, tag, children])
        out += b"".join(bytes(pair) for pair in attributes) + b"\0\0"
    return bytes(out) + b"\0"


def code_unit(block: Block, names: int, line_size: int) -> Piece:
    """.debug_info of a unit of code; the names of all functions begin at `names` in .debug_str."""
    piece, step = Piece(), len(block.data)

    def fill(unit: Piece) -> None:
        unit.put("HBB", 5, 1, 8)
        unit.ref32(".debug_abbrev", 0)
        unit.put("B", CODE_UNIT)
        unit.ref32(".debug_str", 0)
        unit.put("B", C11)
        unit.ref32(".debug_str", len(PRODUCER))
        unit.address(".text", 0, step)
        unit.put("Q", step)
        unit.ref32(".debug_line", 0, line_size)
        for number, (offset, size) in enumerate(block.functions):
            unit.put("B", SUBPROGRAM)
            unit.ref32(".debug_str", names + NAME_SIZE * number, NAME_SIZE * len(block.functions))
            unit.put("BH", 1, 10 * number + 1)
            unit.address(".text", offset, step)
            unit.put("Q", size)
        unit.put("B", 0)

    piece.counted(fill)
    return piece


NAME_SIZE = 12


def function_name(unit: int, number: int) -> str:
    """Eleven characters, so that with its zero byte a name takes NAME_SIZE bytes of .debug_str."""
    return f"fn{unit:06}_{number:02}"


def type_unit(types: int, names: int) -> tuple[Piece, bytes]:
    """.debug_info of a unit with so many typedefs, and the names that it adds to .debug_str."""
    piece = Piece()
    strings = b"".join(b"type_%06d_t\0" % number for number in range(types))

    def fill(unit: Piece) -> None:
        unit.put("HBB", 5, 1, 8)
        unit.ref32(".debug_abbrev", 0)
        unit.put("B", TYPE_UNIT)
        unit.ref32(".debug_str", 0)
        unit.put("B", C11)
        unit.ref32(".debug_str", len(PRODUCER))
        base = len(unit.data)
        unit.put("BBB4s", BASE_TYPE, 4, 5, b"int\0")
        for number in range(types):
            unit.put("B", TYPEDEF)
            unit.ref32(".debug_str", names + 14 * number, len(strings))
            unit.put("BHI", 1, number % 60000, base)
            unit.put("BBI", POINTER, 8, base)
        unit.put("B", 0)

    piece.counted(fill)
    return piece, strings


def line_program(block: Block) -> Piece:
    """.debug_line of a unit of code: one sequence, as gcc makes it, with a row an instruction."""
    piece = Piece()

    def header(unit: Piece) -> None:
        unit.put("6B", 4, 1, 1, 0xFB, 14, 13)  # 4-byte steps, line base -5, range 14
        unit.data += bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
        unit.put("3BB", 1, 1, LINE_STRP, 1)
        unit.ref32(".debug_line_str", 0)
        unit.put("5BB", 2, 1, LINE_STRP, 2, UDATA, 2)
        for _ in range(2):
            unit.ref32(".debug_line_str", LINE_STRINGS.index(UNIT_NAME))
            unit.put("B", 0)

    def fill(unit: Piece) -> None:
        unit.put("HBB", 5, 8, 0)
        unit.counted(header)
        unit.put("BBB", 0, 9, 2)  # DW_LNE_set_address
        unit.address(".text", 0, len(block.data))
        place, line = 0, 1
        for number, (offset, size) in enumerate(block.functions):
            # DW_LNS_advance_pc, DW_LNS_advance_line, DW_LNS_copy
            first = 10 * number + 1
            unit.data += (
                b"\x02" + _uleb((offset - place) // 4) + b"\x03" + _sleb(first - line) + b"\x01"
            )
            steps = [row % 4 == 3 for row in range(size // 4 - 1)]
            unit.data += bytes([SAME_LINE + step for step in steps])
            place, line = offset + size - 4, first + sum(steps)
        unit.data += b"\x02" + _uleb((len(block.data) - place) // 4)
        unit.put("BBB", 0, 1, 1)  # DW_LNE_end_sequence

    piece.counted(fill)
    return piece


def address_ranges(block: Block, info_size: int) -> Piece:
    """.debug_aranges of a unit of code."""
    piece = Piece()

    def fill(unit: Piece) -> None:
        unit.put("H", 2)
        unit.ref32(".debug_info", 0, info_size)
        unit.put("BBI", 8, 0, 0)
        unit.address(".text", 0, len(block.data))
        unit.put("QQQ", len(block.data), 0, 0)

    piece.counted(fill)
    return piece


def address_table(block: Block) -> Piece:
    """.debug_addr of a unit of code: the address of each function."""
    piece = Piece()

    def fill(unit: Piece) -> None:
        unit.put("HBB", 5, 8, 0)
        for offset, _ in block.functions:
            unit.address(".text", offset, len(block.data))

    piece.counted(fill)
    return piece


def _uleb(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _sleb(value: int) -> bytes:
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)
