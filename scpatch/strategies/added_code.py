"""Code that strategies add: its names, which cannot clash when many rewritten objects are linked,
and its place at the end of a section's code.

The names are `r2WORD.TRAMPOLINE.DIGEST`, or `r2WORD.DIGEST`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError, damaged
from scpatch.ppc64 import insn
from scpatch.ppc64.asm import branch
from scpatch.ppc64.branches import Branches

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
        self._sections: dict[int, blake2b] = {}

    def of(self, section: int, *key: int) -> str:
        """Twelve hexadecimal digits for what `key` tells apart inside `section`."""
        if section not in self._sections:
            self._sections[section] = self._start(section)
        state = self._sections[section].copy()
        state.update(repr(key).encode())
        return state.hexdigest()

    @cached_property
    def _object(self) -> blake2b:
        symbols = self._elf.symbols
        assert symbols is not None, "an object with call sites has symbols"
        state = blake2b(symbols.data, digest_size=LENGTH // 2)
        state.update(symbols.strings)
        return state

    def _start(self, section: int) -> blake2b:
        state = self._object.copy()
        # One of two alike sections may be freed after init.
        state.update(self._elf.section_name(section).encode("utf-8", "surrogateescape") + b"\0")
        tables = self._elf.tables.get(section)
        for index in (section, tables.ordinary) if tables is not None else (section,):
            state.update(index.to_bytes(4, "little"))
            state.update(self._elf.content(index))
        return state


def added_name(prefix: str, trampoline: str, digest: str) -> str:
    """The name of code that is added for a trampoline. Linkers read a symbol version in what
    follows an `@`, so the trampoline's own `@` is written as `%40`, and `%` as `%25`."""
    return f"{prefix}{trampoline.replace('%', '%25').replace('@', '%40')}.{digest}"


def trampoline_of(name: str, prefix: str) -> str:
    """The trampoline in such a name, which ends in a dot and twelve digits."""
    return name[len(prefix) : -13].replace("%40", "@").replace("%25", "%")


def leads(elf: ElfFile, sizes: Mapping[int, int]) -> dict[int, bytes]:
    """What goes between the old code of sections and so many bytes of new code: alignment, and a
    branch over the new code where control could come to the end of the old one.

    A section such as `.init` is one function in pieces: control falls from the end of one
    object's part into the next object's.

    Raises SCP243 if something leads past the end of a section, where it would run into the new
    code, and SCP107 if a relocation applies there.
    """
    from scpatch.saved.labels import find_labels

    labels = find_labels(elf, sizes)
    return {
        section: _lead(elf, section, size, labels[section].entered)
        for section, size in sizes.items()
    }


def _lead(elf: ElfFile, section: int, size: int, entered: Iterable[int]) -> bytes:
    code = elf.content(section)
    end, past = len(code), size + 8
    table, name = elf.relocations(section), elf.section_name(section)
    relocated = table.r_offset if table is not None else ()
    if max(relocated, default=0) >= end > 0:
        raise damaged(elf.name, f"a relocation applies past the end of {name}")
    words = _last_words(elf, code)
    branches = elf.known(Branches, section).into([(words, end + past)], past=past)
    others = set(relocated) if branches else set()
    entries = {place for place in entered if words <= place < end + past}
    entries.update(to for to, source in branches if source not in others)
    if max(entries, default=0) > end:
        what = f"{name}+{max(entries):#x} is past the end of the section, where code is added"
        raise ScpatchError("SCP243", what, file=elf.name)
    padding = b"\0" * (-end % 4)
    last = elf.encoding.word(code, words - 4) if words else insn.NOP
    runs_on = last != 0 and insn.falls_through(last)
    if padding or not (entries or runs_on):
        return padding
    return elf.encoding.pack_words(branch(0, 4 + size))


def _last_words(elf: ElfFile, code: memoryview) -> int:
    """Where the nops at the end of a section's code start. Zeros are no instruction."""
    at = len(code) & ~3
    while at and elf.encoding.word(code, at - 4) in insn.NOPS:
        at -= 4
    return at
