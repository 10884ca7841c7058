"""Numbers in both byte orders, whatever the machine that runs the test has."""

from __future__ import annotations

import struct

import pytest

from scpatch.elf.encoding import BIG, LITTLE, Encoding, encoding_of
from tests.tools import FIXTURES

ENCODINGS = {"<": LITTLE, ">": BIG}
BOTH = pytest.mark.parametrize(("mark", "encoding"), ENCODINGS.items(), ids=["little", "big"])


@BOTH
def test_columns(mark: str, encoding: Encoding) -> None:
    """Of a table whose entries are an offset, a word in two halves, and a signed number."""
    rows = [(1, 0x0000000700000026, -4), (1 << 63, 0xFFFFFFFF00000001, -(1 << 63))]
    table = memoryview(b"".join(struct.pack(mark + "QQq", *row) for row in rows))
    assert list(encoding.column(table, "Q", 0, 3)) == [1, 1 << 63]
    assert list(encoding.column(table, "q", 2, 3)) == [-4, -(1 << 63)]
    assert list(encoding.upper_halves(table, 1, 3)) == [7, 0xFFFFFFFF]
    assert [encoding.relocation.unpack_from(table, 24 * row) for row in (0, 1)] == rows


@BOTH
@pytest.mark.parametrize("code", ["H", "I", "Q"])
def test_numbers(mark: str, encoding: Encoding, code: str) -> None:
    size = struct.calcsize(mark + code)
    packed = struct.pack(mark + code, 0x1234)
    assert encoding.pack(0x1234, size) == encoding.pack_all(code, [0x1234]) == packed
    assert encoding.number(packed) == 0x1234
    with pytest.raises(OverflowError):
        encoding.pack(1 << 8 * size, size)
    with pytest.raises(struct.error):
        encoding.pack_all(code, [1 << 8 * size])


def test_the_encoding_of_a_file() -> None:
    for name, encoding in (("sites.o", LITTLE), ("ppc64-be.o", BIG)):
        assert encoding_of(memoryview((FIXTURES / name).read_bytes())) is encoding
    assert encoding_of(memoryview(b"\x7fELF")) is LITTLE


@pytest.mark.parametrize("encoding", [LITTLE, BIG], ids=["little", "big"])
def test_instructions_in_both_byte_orders(encoding: Encoding) -> None:
    code = encoding.pack_words(0x12345678, 0x9ABCDEF0)
    expected = {"little": "78563412f0debc9a", "big": "123456789abcdef0"}
    assert code.hex() == expected[encoding.byte_order]
    assert encoding.words(code + b"\1\2").tolist() == [0x12345678, 0x9ABCDEF0]
    assert encoding.word(memoryview(code), 4) == 0x9ABCDEF0
    assert encoding.number(code[encoding.half :][:2]) == 0x5678
    assert [encoding.byte_of_words(code, number).hex() for number in range(4)] == [
        *("129a", "34bc", "56de", "78f0")
    ]
