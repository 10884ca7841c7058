"""Ways to damage an ELF file: at random anywhere, and one field of one table at a time."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

EHDR_FIELDS = {
    "e_type": (16, 2),
    "e_machine": (18, 2),
    "e_version": (20, 4),
    "e_entry": (24, 8),
    "e_phoff": (32, 8),
    "e_shoff": (40, 8),
    "e_flags": (48, 4),
    "e_ehsize": (52, 2),
    "e_phentsize": (54, 2),
    "e_phnum": (56, 2),
    "e_shentsize": (58, 2),
    "e_shnum": (60, 2),
    "e_shstrndx": (62, 2),
}
SHDR_FIELDS = {
    "sh_name": (0, 4),
    "sh_type": (4, 4),
    "sh_flags": (8, 8),
    "sh_addr": (16, 8),
    "sh_offset": (24, 8),
    "sh_size": (32, 8),
    "sh_link": (40, 4),
    "sh_info": (44, 4),
    "sh_addralign": (48, 8),
    "sh_entsize": (56, 8),
}
SYM_FIELDS = {
    "st_name": (0, 4),
    "st_info": (4, 1),
    "st_other": (5, 1),
    "st_shndx": (6, 2),
    "st_value": (8, 8),
    "st_size": (16, 8),
}
RELA_FIELDS = {"r_offset": (0, 8), "r_type": (8, 4), "r_sym": (12, 4), "r_addend": (16, 8)}


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


def places(data: bytes) -> Iterator[tuple[str, int, int]]:
    """(name, file offset, size in bytes) of every field of every header, symbol and relocation."""
    for name, (offset, size) in EHDR_FIELDS.items():
        yield name, offset, size
    (table,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    for index in range(count):
        header = table + 64 * index
        for name, (offset, size) in SHDR_FIELDS.items():
            yield f"section {index} {name}", header + offset, size
        kind, start, length = struct.unpack_from("<4xI16xQQ", data, header)
        fields, each = {2: (SYM_FIELDS, 24), 4: (RELA_FIELDS, 24)}.get(kind, ({}, length + 1))
        for entry in range(length // each):
            for name, (offset, size) in fields.items():
                yield f"section {index}[{entry}] {name}", start + entry * each + offset, size


def with_field(data: bytes, offset: int, size: int, value: int) -> bytes:
    return data[:offset] + value.to_bytes(size, "little") + data[offset + size :]


def at_random(data: bytes, source: random.Random) -> bytes:
    """A few changes of any kind, most of them in the tables."""
    fields = list(places(data))
    result = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 3, 8))):
        kind = source.random()
        if kind < 0.6:
            _, offset, size = source.choice(fields)
            old = int.from_bytes(data[offset : offset + size], "little")
            value = source.choice(odd_values(size, old, len(data)))
            if offset + size <= len(result):
                result[offset : offset + size] = value.to_bytes(size, "little")
        elif kind < 0.8 and result:
            result[source.randrange(len(result))] = source.randrange(256)
        elif kind < 0.9:
            del result[source.randrange(len(result) + 1) :]
        elif result:
            start = source.randrange(len(result))
            size = source.choice((1, 4, 8, 64))
            result[start:start] = bytes(source.randrange(256) for _ in range(size))
    return bytes(result)
