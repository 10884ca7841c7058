"""Finds the call sites of an object: every branch that leads to a trampoline or a stub.

The relocation of most names the callee. Within one section the distance to a local symbol is known
when the object is assembled, so GNU as and clang write it into the `bl` and leave nothing for a
linker to change. A stub is in the caller's section as well, so scpatch can change the distance, and
can find those calls again that it has led to a stub.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile
from scpatch.elf.relocations import LoadedRelocations, RelaTable
from scpatch.errors import ScpatchError
from scpatch.ppc64 import insn
from scpatch.ppc64.branches import Branches
from scpatch.ppc64.relocs import BRANCHES
from scpatch.sites.model import Callee, Stub, Trampoline
from scpatch.sites.symbols import is_added


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
    callees, loaded = _Callees(elf, [*trampolines, *stubs]), elf.loaded
    for section, first, indices in loaded.by_section(callees.candidates(loaded)):
        for index, callee, displaced in callees.called(loaded, indices):
            offset = loaded.r_offset[index]
            if not elf.is_code(section):
                where = f"{elf.section_name(section)}+{offset:#x}"
                what = "a call in a section that is not executable"
                raise ScpatchError("SCP121", what, file=elf.name, where=where)
            table = elf.relocations(section)
            yield Reference(section, offset, callee, displaced, table, index - first)


class _Callees:
    """What branches may lead to."""

    def __init__(self, elf: ElfFile, callees: Sequence[Callee]) -> None:
        self._by_symbol = {callee.symbol: callee for callee in callees}
        self._by_section = _by_section(callees)
        symbols = elf.symbols
        self._homes = symbols.homes(self._by_section) if symbols else {}
        """The symbols that an addend to a callee may count from, and their sections."""
        self._values = symbols.st_value if symbols else ()
        # A branch without an addend, or any if the symbol names the start of the section.
        others = (
            symbol
            for symbol, section in self._homes.items()
            if not (start := self._values[symbol])
            or _at(self._by_section[section], start) is not None
        )
        self._named = {*self._by_symbol, *others}

    def candidates(self, table: LoadedRelocations) -> list[int]:
        """The indices of the relocations that may lead to a callee."""
        named, addends, symbols = self._named, table.r_addend, table.symbol
        # One look-up of its symbol in this set is all that most relocations cost.
        hits = table.naming(named.union(self._homes))
        return [at for at in hits if addends[at] or symbols[at] in named]

    def called(
        self, table: LoadedRelocations, indices: Sequence[int]
    ) -> Iterator[tuple[int, Callee, bool]]:
        """(index in the table, callee, whether it goes elsewhere than to an entry point) of each
        branch to a callee."""
        for index in indices:
            if table.r_info[index] & 0xFFFFFFFF not in BRANCHES:
                continue
            symbol, addend = table.symbol[index], table.r_addend[index]
            callee, displaced = self._by_symbol.get(symbol), addend != 0
            if callee is None:
                place = self._values[symbol] + addend
                callee = _at(self._by_section[self._homes[symbol]], place)
                displaced = callee is not None and place not in entries(callee)
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
    if offset < callees[0][0]:
        return None
    callee = callees[bisect_left(callees, (offset + 1,)) - 1][3]
    return callee if offset < _end(callee) else None


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
