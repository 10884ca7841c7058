"""Compares bytes, file headers, and whether symbols have the same indices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scpatch.differ.model import FieldChange
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Header

_CHUNK: Final = 1 << 20
_PIECE: Final = 1 << 14


def same_bytes(before: memoryview, after: memoryview) -> bool:
    """Whether two stretches of bytes are the same; compares at the speed of memcmp."""
    return len(before) == len(after) and all(
        bytes(before[at : at + _CHUNK]) == bytes(after[at : at + _CHUNK])
        for at in range(0, len(before), _CHUNK)
    )


def changed_bytes(before: memoryview, after: memoryview) -> int:
    """How many bytes differ in the part that both have."""
    length = min(len(before), len(after))
    total = 0
    for at in range(0, length, _PIECE):
        end = min(at + _PIECE, length)
        old, new = bytes(before[at:end]), bytes(after[at:end])
        if old != new:
            # The zero bytes of the exclusive or are the equal ones.
            mixed = int.from_bytes(old) ^ int.from_bytes(new)
            total += end - at - mixed.to_bytes(end - at).count(0)
    return total


def header_changes(before: ElfFile, after: ElfFile) -> Iterator[FieldChange]:
    """The fields of the ELF header that differ, by their names in the gABI."""
    old, new = bytes(before.data[:16]), bytes(after.data[:16])
    if old != new:
        yield FieldChange("e_ident", old.hex(), new.hex())
    for name, *values in zip(Header._fields, before.header, after.header, strict=True):
        if values[0] != values[1]:
            yield FieldChange(name, *map(hex, values))


def same_symbols(before: ElfFile, after: ElfFile) -> bool:
    """Whether every symbol index of the first object means the same symbol in the second one: its
    tables begin with those of the first."""
    old, new = before.symbols, after.symbols
    if old is None or new is None or (old.extended is None) != (new.extended is None):
        return old is new
    beginnings = [(old.data, new.data), (old.strings, new.strings)]
    if old.extended is not None and new.extended is not None:
        beginnings.append((before.content(old.extended), after.content(new.extended)))
    return all(same_bytes(part, whole[: len(part)]) for part, whole in beginnings) and _same_names(
        before, after
    )


def _same_names(before: ElfFile, after: ElfFile) -> bool:
    """Whether the sections of the first object have the same indices in the second."""
    return len(before.sections) <= len(after.sections) and all(
        before.section_name(i) == after.section_name(i) for i in range(1, len(before.sections))
    )
