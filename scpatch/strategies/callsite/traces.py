"""Finds the stubs that an earlier rewrite has added to a file.

If two objects brought the same stub, `ld -r` keeps the first of the two weak symbols, and all calls
go there. The other stub stays where it was, without a symbol, as dead code: its branch is no call.
Code that looks like a stub and is none, a thunk written by hand, is told from it by what leads
there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from scpatch.elf import constants as c
from scpatch.elf.encoding import Encoding
from scpatch.elf.functions import section_of
from scpatch.elf.reader import ElfFile
from scpatch.elf.symtab import SymbolTable
from scpatch.ppc64 import insn
from scpatch.ppc64.branches import Branches
from scpatch.ppc64.relocs import BRANCHES
from scpatch.ppc64.variant import SAVE_R2
from scpatch.sites.model import Place, Stub, Traces
from scpatch.sites.symbols import matches, named
from scpatch.strategies.added_code import trampoline_of

STUB_PREFIX = "r2save."
THUNK_PREFIX = "r2thunk."

_DIGEST = re.compile(r"\.[0-9a-f]{12}")
_STUB = SAVE_R2, insn.B
"""The two words of a stub in an object: the relocation has the distance."""


def find_traces(elf: ElfFile, patterns: Sequence[str]) -> Traces:
    """The stubs and thunks for trampolines that match one of the patterns."""
    symbols = elf.symbols
    if symbols is None:
        return Traces()
    stubs = tuple(_stubs(symbols, patterns))
    copies = _copies(elf, symbols, stubs) if elf.header.e_type == c.ET_REL else ()
    return Traces(stubs=stubs, copies=frozenset(copies))


def _stubs(symbols: SymbolTable, patterns: Sequence[str]) -> Iterator[Stub]:
    for prefix in (STUB_PREFIX, THUNK_PREFIX):
        for index, symbol, name in named(symbols, prefix + "*"):
            trampoline = trampoline_of(name, prefix)
            section = section_of(symbols, index)
            if _DIGEST.fullmatch(name[-13:]) and section and matches(trampoline, patterns):
                where = index, section, symbol.st_value, symbol.st_size
                yield Stub(name, trampoline, *where, prefix == THUNK_PREFIX)


def _copies(elf: ElfFile, symbols: SymbolTable, stubs: Sequence[Stub]) -> Iterator[Place]:
    """The branches that end copies of stubs without a symbol."""
    ends = {(stub.section, stub.value + 4) for stub in stubs}
    # What the branches of stubs name. Another branch that names the same may end a copy.
    twins: set[tuple[int, int]] = set()
    for section in {stub.section for stub in stubs}:
        table = elf.relocations(section)
        for index, offset in enumerate(table.r_offset if table is not None else ()):
            if table is not None and (section, offset) in ends:
                twins.add((table.symbol[index], table.r_addend[index]))
    if not twins:
        return
    loaded = elf.loaded
    named, addends, info = loaded.symbol, loaded.r_addend, loaded.r_info
    branches = [
        at
        for at in loaded.naming({symbol for symbol, _ in twins})
        if (named[at], addends[at]) in twins and info[at] & 0xFFFFFFFF in BRANCHES
    ]
    for section, _, indices in loaded.by_section(branches):
        if elf.is_code(section):
            for offset in {loaded.r_offset[at] for at in indices}:
                if (section, offset) not in ends and _is_copy(elf, symbols, section, offset - 4):
                    yield section, offset


def _is_copy(elf: ElfFile, symbols: SymbolTable, section: int, start: int) -> bool:
    """Whether a stub that nothing leads to is at a section offset."""
    end = start + 8
    code, encoding = elf.content(section), elf.encoding
    if start < 0 or end > len(code) or start % 4:
        return False
    if tuple(encoding.words(code[start:end])) != _STUB or _runs_on(encoding, code, start):
        return False
    return not elf.known(Branches, section).into([(start, end)]) and not _is_named(
        elf, symbols, section, start, end
    )


def _runs_on(encoding: Encoding, code: memoryview, start: int) -> bool:
    """Whether control may come from the word before. A zero is padding, and no instruction."""
    before = encoding.word(code, start - 4) if start else 0
    return before != 0 and insn.falls_through(before)


def _is_named(elf: ElfFile, symbols: SymbolTable, section: int, start: int, end: int) -> bool:
    """Whether a symbol or a relocation names a place in a range of a section."""
    home = set(symbols.defined_in(section))
    values, infos = symbols.st_value, symbols.st_info
    for index in home:
        inside = start <= values[index] < end or values[index] < start < (
            values[index] + symbols.st_size[index]
        )
        if inside and infos[index] & 0xF != c.STT_SECTION:
            return True
    loaded = elf.loaded
    places = (values[loaded.symbol[at]] + loaded.r_addend[at] for at in loaded.naming(home))
    return any(start <= place < end for place in places)
