"""Code that strategies add: its names, which cannot clash when many rewritten objects are linked,
and its place at the end of a section's code.

The names are `r2WORD.TRAMPOLINE.DIGEST`, or `r2WORD.DIGEST`.
"""

from __future__ import annotations

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


def lead(elf: ElfFile, section: int, size: int) -> bytes:
    """What goes between the old code and `size` bytes of new code: alignment, and a branch over
    the new code where the old one could run into it.

    A section such as `.init` is one function in pieces: control falls from the end of one
    object's part into the next object's.

    Raises SCP243 if a branch of the section leads past its end, where it would run into the new
    code, and SCP107 if a relocation applies there.
    """
    code = elf.content(section)
    _check_nothing_past_the_end(elf, section, code, size)
    padding = b"\0" * (-len(code) % 4)
    if padding or not _falls_through(elf, section, code):
        return padding
    return elf.encoding.pack_words(branch(0, 4 + size))


def _check_nothing_past_the_end(elf: ElfFile, section: int, code: memoryview, size: int) -> None:
    table, name = elf.relocations(section), elf.section_name(section)
    offsets = table.r_offset if table is not None else ()
    if max(offsets, default=0) >= len(code) > 0:
        raise damaged(elf.name, f"a relocation applies past the end of {name}")
    end, more = len(code), size + 8
    past = elf.known(Branches, section).into([(end, end + more)], past=more)
    if relocated := past and set(offsets):
        past = [branch for branch in past if branch[1] not in relocated]
    if past:
        target, source = past[0]
        what = f"a branch to {name}+{target:#x}, past the end of the section, where code is added"
        raise ScpatchError("SCP243", what, file=elf.name, where=f"{name}+{source:#x}")


def _falls_through(elf: ElfFile, section: int, code: memoryview) -> bool:
    """Whether control may reach the end of a section's code."""
    end = len(code)
    for at in range(end - 4, -1, -4):
        word = elf.encoding.word(code, at)
        if word not in (0, *insn.NOPS):
            return insn.falls_through(word) or _is_entered(elf, section, at + 4, end)
    return True


def _is_entered(elf: ElfFile, section: int, start: int, end: int) -> bool:
    """Whether a symbol or a branch leads to what looks like padding, from `start` to `end`."""
    if start == end or elf.symbols is None:
        return False
    values = elf.symbols.st_value
    named = (values[symbol] for symbol, _ in elf.symbols.in_sections({section}))
    if any(start <= value < end for value in named):
        return True
    return bool(elf.known(Branches, section).into([(start, end)]))
