"""Descriptions of objects with a word changed."""

from __future__ import annotations

from dataclasses import replace

from tests.elfwriter import Elf, words


def only_word(elf: Elf, offset: int, word: int) -> Elf:
    """The object with another word in its first section."""
    first, *rest = elf.sections
    assert isinstance(first.data, bytes)
    data = first.data[:offset] + words(word) + first.data[offset + 4 :]
    return replace(elf, sections=[replace(first, data=data), *rest])
