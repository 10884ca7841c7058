"""Finds the call sites of an object: every branch that leads to a trampoline or a stub.

The relocation of most names the callee. Within one section the distance to a local symbol is known
when the object is assembled, so GNU as and clang write it into the `bl` and leave nothing for a
linker to change. A stub is in the caller's section as well, so scpatch can change the distance, and
can find those calls again that it has led to a stub.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.errors import ScpatchError
from scpatch.ppc64 import insn
from scpatch.ppc64.branches import Branches
from scpatch.ppc64.relocs import BRANCHES
from scpatch.sites.model import Callee, Stub, Trampoline
from scpatch.sites.symbols import is_added

_LOADED = c.SHF_ALLOC | c.SHF_EXECINSTR


class Reference(NamedTuple):
    """A branch to a trampoline or a stub."""

    section: int
    offset: int
    """Section offset of the branch."""
    callee: Callee
    displaced: bool
    """It does not lead to an entry point of `callee`, or has an addend to its symbol."""
    table: RelaTable | None
    """The relocations of the section."""
    position: int
    """Index of the branch's own relocation in the table; -1 if it has none."""

    @property
    def resolved(self) -> bool:
        """The assembler has written the distance into the branch."""
        return self.position < 0


def find_references(
    elf: ElfFile, trampolines: Sequence[Trampoline], stubs: Sequence[Stub]
) -> Iterator[Reference]:
    """Every branch relocation that leads to one of the callees: by its own symbol, or by any other
    symbol of its section and an addend.

    Raises SCP121 for one in a section that is loaded and not marked as executable: the kernel may
    copy it to code, as it does with `__ftr_alt_*`.
    """
    callees = _Callees(elf, [*trampolines, *stubs])
    for section in elf.relocated:
        table = elf.relocations(section) if elf.sections[section].sh_flags & _LOADED else None
        if table is None:
            continue
        for index, callee, displaced in callees.called(table):
            offset = table.r_offset[index]
            if not elf.is_code(section):
                where = f"{elf.section_name(section)}+{offset:#x}"
                what = "a call in a section that is not executable"
                raise ScpatchError("SCP121", what, file=elf.name, where=where)
            yield Reference(section, offset, callee, displaced, table, index)


class _Callees:
    """What branches may lead to."""

    def __init__(self, elf: ElfFile, callees: Sequence[Callee]) -> None:
        self._by_symbol = {callee.symbol: callee for callee in callees}
        self._by_section = _by_section(callees)
        symbols = elf.symbols
        inside = symbols.in_sections(set(self._by_section)) if symbols and callees else ()
        self._bases = {
            symbol: (section, symbols.st_value[symbol]) for symbol, section in inside if symbols
        }
        """Symbol -> the section and the section offset that an addend counts from."""
        # A branch without an addend, or any if the symbol names the start of the section.
        others = (
            symbol
            for symbol, (section, start) in self._bases.items()
            if not start or _at(self._by_section[section], start) is not None
        )
        self._named = {*self._by_symbol, *others}
        # One look-up of its symbol in this set is all that most relocations cost.
        self._wanted = self._named.union(self._bases)

    def called(self, table: RelaTable) -> Iterator[tuple[int, Callee, bool]]:
        """(index in the table, callee, whether it goes elsewhere than to an entry point) of each
        branch to a callee."""
        named, bases, addends = self._named, self._bases, table.r_addend
        for index in compress(range(len(table)), map(self._wanted.__contains__, table.symbol)):
            symbol = table.symbol[index]
            if symbol not in named and not addends[index]:
                continue
            if table.r_info[index] & 0xFFFFFFFF not in BRANCHES:
                continue
            callee, displaced = self._by_symbol.get(symbol), addends[index] != 0
            if callee is None:
                section, start = bases[symbol]
                callee = _at(self._by_section[section], start + addends[index])
                displaced = callee is not None and start + addends[index] not in entries(callee)
            if callee is not None:
                yield index, callee, displaced


def _by_section(callees: Sequence[Callee]) -> dict[int, list[tuple[int, int, int, Callee]]]:
    """The callees of each section, by the place where they start."""
    sections: dict[int, list[tuple[int, int, int, Callee]]] = {}
    for index, callee in enumerate(callees):
        if callee.section:
            # Of several names for one place, the one that covers most comes last.
            order = callee.value, _end(callee), index, callee
            sections.setdefault(callee.section, []).append(order)
    for inside in sections.values():
        inside.sort()
    return sections


def _at(callees: Sequence[tuple[int, int, int, Callee]], offset: int) -> Callee | None:
    """The one of a section's callees that starts at an offset or covers it."""
    index = bisect_left(callees, (offset + 1,)) - 1
    callee = callees[index][3] if index >= 0 else None
    return callee if callee is not None and offset < _end(callee) else None


def _end(callee: Callee) -> int:
    """The section offset after a callee, which has an instruction at each entry point."""
    return max(callee.value + callee.size, entries(callee)[-1] + 4)


def entries(callee: Callee) -> tuple[int, ...]:
    """The section offsets of a callee's entry points; a local one last."""
    return (callee.value,) if isinstance(callee, Stub) else (callee.value, callee.local_entry)


def resolved_calls(
    elf: ElfFile, trampolines: Sequence[Trampoline], stubs: Sequence[Stub]
) -> Iterator[Reference]:
    """The calls that the assembler has resolved, but those of added code, which goes back to after
    the prologue of a trampoline."""
    functions: Functions | None = None
    by_section = _by_section([*trampolines, *stubs])
    for section, inside in by_section.items():
        if not elf.is_code(section):
            continue
        table, code = elf.relocations(section), elf.content(section)
        ranges = [(start, end) for start, end, _, _ in inside]
        branches = elf.known(Branches, section).into(ranges)
        relocated = set(table.r_offset) if branches and table is not None else set()
        for target, offset in branches:
            callee = _at(inside, target)
            if callee is None or callee.value <= offset < _end(callee) or offset in relocated:
                continue
            functions = functions or Functions(elf, by_section)
            displaced = target not in entries(callee)
            if displaced and is_added(functions.name(section, offset)[0]):
                continue
            links = insn.links(elf.encoding.word(code, offset))
            is_call = links or (isinstance(callee, Stub) and callee.is_thunk)
            # Between functions GNU as pads with a branch over the padding.
            if is_call or functions.covering(section, offset) is not None:
                yield Reference(section, offset, callee, displaced, table, -1)
