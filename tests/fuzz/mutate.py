"""Ways to damage a file: at random anywhere, and one field of one table at a time."""

from __future__ import annotations

import random

from scpatch.elf.encoding import ByteOrder
from tests.fuzz.fields import Field, any_place

NOP, STD_R2, LD_R2, BL, B = 0x60000000, 0xF8410018, 0xE8410018, 0x48000001, 0x48000000
_WORDS = (
    *(NOP, STD_R2, LD_R2, BL, B, 0x4E800020, 0x4E800421, 0x4E800420, 0, 0xFFFFFFFF, 0x44000001),
    *(0x41820008, 0x3C4C0000, 0x38420000, 0xF821FFD1, 0x7C0802A6, 0x04000000, 0x60420000),
)
"""Instructions that the analyses have an opinion about."""
_NAMES = (b"/", b"//", b"/SYM64/", b"/0", b"/99", b"/0:8", b"/0:178", b"#1/8", b"#1/99999", b"x/")


def bounds(size: int, old: int) -> list[int]:
    """0, 1, -1, the largest signed number and one off by one: what a field of `size` bytes with the
    value `old` is set to by a full run."""
    top = (1 << 8 * size) - 1
    values = dict.fromkeys((0, 1, top, top // 2, top // 2 + 1, old - 1, old + 1))
    return [value for value in values if 0 <= value <= top and value != old]


def odd_values(size: int, old: int, length: int) -> list[int]:
    """What a field of `size` bytes with the value `old` is set to in a file of `length` bytes."""
    top = (1 << 8 * size) - 1
    values = [0, 1, 2, 3, 7, 8, old - 1, old + 1, old * 2, old | 1 << 8 * size - 1]
    values += [
        length - 1,
        length,
        length + 1,
        top,
        top - 1,
        top // 2,
        top // 2 + 1,
        1 << 20,
        1 << 40,
    ]
    return [value for value in dict.fromkeys(values) if 0 <= value <= top and value != old]


def value_of(data: bytes | bytearray, offset: int, size: int, order: ByteOrder) -> int:
    return int.from_bytes(data[offset : offset + size], order)


def with_field(data: bytes, offset: int, size: int, value: int, order: ByteOrder) -> bytes:
    return data[:offset] + value.to_bytes(size, order) + data[offset + size :]


def at_random(data: bytes, source: random.Random) -> bytes:
    """A few changes of any kind, most of them to fields and instructions."""
    result = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 3, 8))):
        kind = source.random()
        if kind < 0.7:
            _set_place(result, data, source)
        elif kind < 0.8 and result:
            result[source.randrange(len(result))] = source.randrange(256)
        elif kind < 0.9:
            del result[source.randrange(len(result) + 1) :]
        elif result:
            start = source.randrange(len(result))
            size = source.choice((1, 4, 8, 64))
            result[start:start] = bytes(source.randrange(256) for _ in range(size))
    return bytes(result)


def _set_place(result: bytearray, data: bytes, source: random.Random) -> None:
    """An odd value in a field of `data`, or what another field has, so that indices and offsets go
    on being valid ones; another instruction in place of one."""
    field = any_place(data, source)
    if field is None or field.offset + field.size > len(result):
        return
    if field.name.startswith("ar_"):
        _set_text(result, field, source)
    elif field.name == "word":
        _set_word(result, field, source)
    else:
        value = source.choice(odd_values(field.size, _old(data, field), len(data)))
        other = any_place(data, source)
        if source.random() < 0.3 and other is not None and other.size == field.size:
            value = _old(data, other)
        result[field.offset : field.offset + field.size] = value.to_bytes(field.size, field.order)


def _old(data: bytes, field: Field) -> int:
    return value_of(data, field.offset, field.size, field.order)


def _set_text(data: bytearray, field: Field, source: random.Random) -> None:
    """A field of an archive header: text, padded with blanks."""
    old = bytes(data[field.offset : field.offset + field.size]).strip()
    number = int(old) if old.isdigit() else 0
    texts = [b"", b"0", b"-1", b"9" * field.size, b"%d" % (number + 1), b"%d" % (2 * number), b"x"]
    texts += [b"%d" % max(0, number - 1), b"%d" % len(data), b"\xff\0"]
    texts += _NAMES if field.size == 16 else ()
    text = source.choice(texts)[: field.size].ljust(field.size)
    data[field.offset : field.offset + field.size] = text


def _set_word(data: bytearray, field: Field, source: random.Random) -> None:
    """Another instruction, or another register or number in this one."""
    word = value_of(data, field.offset, 4, field.order)
    shift, width = source.choice(((0, 1), (1, 1), (2, 14), (2, 24), (11, 5), (16, 5), (21, 5)))
    mask = (1 << width) - 1 << shift
    word = word & ~mask | source.getrandbits(width) << shift
    if source.random() < 0.5:
        word = source.choice(_WORDS)
    data[field.offset : field.offset + 4] = word.to_bytes(4, field.order)
