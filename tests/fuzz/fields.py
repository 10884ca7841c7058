"""Where the fields of a file lie: ELF headers, tables and instructions, and archive headers.

All of it is read from the bytes as they are, which may be damaged: what is not inside the file
has no fields.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

from scpatch.elf.encoding import ByteOrder

EHDR_FIELDS = {
    "EI_CLASS": (4, 1),
    "EI_DATA": (5, 1),
    "EI_VERSION": (6, 1),
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
PHDR_FIELDS = {
    "p_type": (0, 4),
    "p_flags": (4, 4),
    "p_offset": (8, 8),
    "p_vaddr": (16, 8),
    "p_paddr": (24, 8),
    "p_filesz": (32, 8),
    "p_memsz": (40, 8),
    "p_align": (48, 8),
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
BIG_RELA_FIELDS = RELA_FIELDS | {"r_type": (12, 4), "r_sym": (8, 4)}
AR_FIELDS = {
    "ar_name": (0, 16),
    "ar_date": (16, 12),
    "ar_uid": (28, 6),
    "ar_gid": (34, 6),
    "ar_mode": (40, 8),
    "ar_size": (48, 10),
    "ar_fmag": (58, 2),
}

_TABLES = {2: (SYM_FIELDS, 24), 4: (RELA_FIELDS, 24), 18: ({"st_shndx": (0, 4)}, 4)}
_EXECUTABLE = 4
_LONGEST_NAME = 256
_MOST = 100_000
"""Fields of one file: a forged count must not make a mutator slow."""


class Field(NamedTuple):
    """A field by its name; `offset` is a file offset, `size` is in bytes."""

    name: str
    offset: int
    size: int
    order: ByteOrder = "little"


def is_archive(data: bytes) -> bool:
    return data[:8] in (b"!<arch>\n", b"!<thin>\n")


def order_of(data: bytes) -> ByteOrder:
    """The byte order that an ELF file names."""
    return "big" if data[5:6] == b"\2" else "little"


def _format(order: ByteOrder, fields: str) -> str:
    return ("<" if order == "little" else ">") + fields


def places(data: bytes) -> Iterator[Field]:
    """Every field of every header, symbol and relocation of an ELF file."""
    if len(data) < 64:
        return
    order = order_of(data)
    yield from _fields("", EHDR_FIELDS, 0, order)
    for index, start in _headers(data, 32, 54, 56, 56):
        yield from _fields(f"segment {index} ", PHDR_FIELDS, start, order)
    for index, start in _headers(data, 40, 58, 60, 64):
        yield from _fields(f"section {index} ", SHDR_FIELDS, start, order)
        kind, offset, length = struct.unpack_from(_format(order, "4xI16xQQ"), data, start)
        if kind not in _TABLES or offset > len(data):
            continue
        fields, each = _table(kind, order)
        for entry in range(min(length, len(data) - offset, _MOST) // each):
            yield from _fields(f"section {index}[{entry}] ", fields, offset + entry * each, order)


def _table(kind: int, order: ByteOrder) -> tuple[dict[str, tuple[int, int]], int]:
    """The fields of an entry and its size. r_info is one number: its halves change places."""
    fields, each = _TABLES[kind]
    return (BIG_RELA_FIELDS if (fields, order) == (RELA_FIELDS, "big") else fields), each


def any_place(data: bytes, source: random.Random) -> Field | None:
    """One field that lies in the file, or one instruction: without a list of them all, since a
    mutator needs one at a time. None where an ELF file or an archive has none."""
    if is_archive(data):
        choices = list(members(data))
        if not choices:
            return None
        header, content, size = source.choice(choices)
        start = data.find(b"\x7fELF", content, content + min(size, _LONGEST_NAME))
        inner = any_place(data[start : content + size], source) if start >= 0 else None
        if inner is not None and source.random() < 0.6:
            return inner._replace(offset=start + inner.offset)
        return source.choice(list(_fields("", AR_FIELDS, header)))
    if len(data) < 64:
        return None
    order = order_of(data)
    headers = list(_headers(data, 40, 58, 60, 64))
    kind = source.random()
    if kind < 0.1 or not headers:
        fields = list(_fields("", EHDR_FIELDS, 0, order))
        for _, start in _headers(data, 32, 54, 56, 56):
            fields += _fields("", PHDR_FIELDS, start, order)
        return source.choice(fields)
    if kind < 0.35:
        return source.choice(list(_fields("", SHDR_FIELDS, source.choice(headers)[1], order)))
    return _inside(data, headers, source)


def _inside(data: bytes, headers: list[tuple[int, int]], source: random.Random) -> Field | None:
    """A field of an entry, or an instruction, of any section that has such."""
    choices, order = [], order_of(data)
    for _, start in headers:
        kind, flags, offset, length = struct.unpack_from(_format(order, "4xIQ8xQQ"), data, start)
        fields, each = _table(kind, order) if kind in _TABLES else ({"word": (0, 4)}, 4)
        count = min(length, max(0, len(data) - offset)) // each
        if count and (kind in _TABLES or flags & _EXECUTABLE):
            choices.append((fields, each, offset, count))
    if not choices:
        return None
    fields, each, offset, count = source.choice(choices)
    entry = offset + each * source.randrange(count)
    return source.choice(list(_fields("", fields, entry, order)))


def members(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(header, content, size) of the members of an archive, as far as its headers lead."""
    at = 8
    while at + 60 <= len(data):
        digits = data[at + 48 : at + 58].strip()
        size = int(digits) if digits.isdigit() else 0
        name = data[at : at + 16].rstrip()
        inside = data[:8] != b"!<thin>\n" or name in (b"/", b"//", b"/SYM64/")
        yield at, at + 60, min(size, len(data) - at - 60) if inside else 0
        at += 60 + (size + size % 2 if inside else 0)


def archive_places(data: bytes) -> Iterator[Field]:
    """Every field of every member header of an archive, and of the objects in it."""
    for number, (header, content, size) in enumerate(members(data)):
        yield from _fields(f"member {number} ", AR_FIELDS, header)
        start = data.find(b"\x7fELF", content, content + min(size, _LONGEST_NAME))
        if start >= 0:  # a BSD name may lie in front
            size -= start - content
            content = start
        inner = data[content : content + size]
        if start >= 0:
            for name, offset, width, order in places(inner):
                yield Field(f"member {number}: {name}", content + offset, width, order)
        elif data[header : header + 1] in (b"/", b"_"):
            for at in range(0, min(size, 256) & ~3, 4):
                yield Field(f"member {number} word {at // 4}", content + at, 4)


def _headers(
    data: bytes, offset: int, entry: int, count: int, size: int
) -> Iterator[tuple[int, int]]:
    """(index, file offset) of the headers of one table that lie in the file. The arguments are
    where the ELF header has the table's offset, its entries' size and their number."""
    order = order_of(data)
    (start,) = struct.unpack_from(_format(order, "Q"), data, offset)
    (each,) = struct.unpack_from(_format(order, "H"), data, entry)
    (number,) = struct.unpack_from(_format(order, "H"), data, count)
    for index in range(number if each == size else 0):
        if start + (index + 1) * size > len(data):
            return
        yield index, start + index * size


def _fields(
    prefix: str, fields: dict[str, tuple[int, int]], start: int, order: ByteOrder = "little"
) -> Iterator[Field]:
    for name, (offset, size) in fields.items():
        yield Field(prefix + name, start + offset, size, order)
