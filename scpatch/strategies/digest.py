"""Names for stubs that cannot clash when many rewritten objects are linked."""

from __future__ import annotations

from scpatch.elf.reader import ElfFile

try:
    # What hashlib gives as well, but it loads OpenSSL first, which takes as long as planning a
    # small object ten times over.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

LENGTH = 12
"""Hexadecimal digits: 48 bits, so that among a thousand objects with a stub for the same trampoline
two meet with a probability of 2e-9."""


class Digest:
    """Tells objects, and stubs of one object, apart by what is in them, never by a path.

    The symbol table, its names, and the section with its relocations go in: two objects that
    agree in all of these hold the same code for the same callees.
    """

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._object: blake2b | None = None
        self._sections: dict[int, blake2b] = {}

    def of(self, section: int, *key: int) -> str:
        """Twelve hexadecimal digits for what `key` tells apart inside `section`."""
        if section not in self._sections:
            self._sections[section] = self._start(section)
        state = self._sections[section].copy()
        state.update(repr(key).encode())
        return state.hexdigest()

    def _start(self, section: int) -> blake2b:
        if self._object is None:
            self._object = blake2b(digest_size=LENGTH // 2)
            symbols = self._elf.symbols
            assert symbols is not None, "an object with call sites has symbols"
            for part in (symbols.data, symbols.strings):
                self._object.update(part)
        state = self._object.copy()
        # One of two alike sections may be freed after init.
        state.update(self._elf.section_name(section).encode("utf-8", "surrogateescape") + b"\0")
        tables = self._elf.tables.get(section)
        for index in (section, tables.ordinary) if tables is not None else (section,):
            state.update(index.to_bytes(4, "little"))
            state.update(self._elf.content(index))
        return state
