"""What the rest of an object says about the control flow of one of its functions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from scpatch.elf.functions import Functions, section_of
from scpatch.elf.reader import ElfFile, RelaTable, Relocation
from scpatch.elf.symtab import Symbol
from scpatch.linux.patched import Patched, words_in
from scpatch.ppc64 import relocs
from scpatch.ppc64.insn import in_branch_reach
from scpatch.ppc64.variant import local_entry_offset
from scpatch.saved.calls import After, Call
from scpatch.saved.changeable import changeable, with_saves
from scpatch.saved.labels import Labels
from scpatch.saved.other_calls import OtherCalls
from scpatch.saved.tocflow import Function

Direct = dict[int, list[tuple[int, int]]]
"""Section index -> (target, branch) of branches without a relocation, sorted."""

_MOST_CODE_A_SITE = 16
"""Bytes of the largest code that a site can be given at the end of its section."""


class Surroundings:
    """Answers for the functions of one object."""

    def __init__(
        self,
        elf: ElfFile,
        functions: Functions,
        labels: Labels,
        direct: Direct,
        patched: Patched,
        calls: OtherCalls,
    ) -> None:
        self._elf = elf
        self._patched = patched
        self._functions = functions
        self._labels = labels
        self._direct = direct
        self._calls = calls
        self._sorted: dict[int, tuple[RelaTable, list[int]]] = {}

    def function(
        self, section: int, symbol: Symbol, code: bytes, sites: Sequence[Call], number: int
    ) -> tuple[Function, set[int]]:
        """The function, and the nops in it that may become a save of r2 (section offsets).

        `sites` are those in it; `number` is that of all sites in the section.
        """
        start = symbol.st_value
        end = start + len(code)
        entry = start + local_entry_offset(symbol.st_other)
        entries = set(self._functions.inside(section, start, end))
        labels = self._labels
        for places in (labels.taken, labels.branched):
            entries |= _between(places, section, start, end)
        entries |= set(words_in(labels.possible.get(section, ()), start + 4, end))
        into = self._direct.get(section, [])
        into = into[bisect_left(into, (start + 1,)) : bisect_left(into, (end,))]
        entries |= {target for target, source in into if not start <= source < end}
        edges = []
        pairs = labels.edges.get(section, ())
        for target, (home, source) in pairs[
            bisect_left(pairs, (start,)) : bisect_left(pairs, (end,))
        ]:
            if home == section and start <= source < end:
                edges.append((source, target))
            else:
                entries.add(target)
        relocations = self._relocations(section, start, end)
        stubbed, unsaved = self._stubbed(section, sites, number)
        branches = self._branches(section, relocations)
        foreign = [at for at, (kind, _) in branches.items() if kind in relocs.NOTOC]
        assert self._elf.symbols is not None, "it has the function's symbol"
        linkers = changeable(code, start, relocations, self._elf.symbols)
        loud = set(words_in(self._patched.loud.get(section, ()), start, end))
        quiet = set(words_in(self._patched.quiet.get(section, ()), start, end))
        function = Function(
            code=with_saves(code, start, linkers.saves),
            start=start,
            entry=entry,
            relocated={at: target for at, (_, target) in branches.items()},
            entries=entries - {entry},
            edges=edges,
            foreign_after=foreign + [s.offset for s in sites if s.after is After.CLOBBERED],
            saving=self._calls.saving(code, start, relocations) | stubbed,
            unsaved=unsaved,
            unsure=linkers.unsure | quiet | _between(labels.changed, section, start - 4, end),
            unknown=linkers.unknown | loud,
        )
        nops = self._calls.free_nops(code, start, relocations)
        return function, nops - self._named(section, start, end)

    def _stubbed(
        self, section: int, sites: Sequence[Call], number: int
    ) -> tuple[set[int], set[int]]:
        """Calls that save r2, in one way or another: where not before, then by a stub. And those
        that save it by no stub, if it is out of reach, or cannot branch to the trampoline. Those of
        the module loader are among the other calls."""
        size = self._elf.sections[section].sh_size + _MOST_CODE_A_SITE * (number + 1)
        saving: set[int] = set()
        unsaved: set[int] = set()
        for site in sites:
            reached = site.after is After.STUB and in_branch_reach(size - site.offset)
            if reached:
                saving.add(site.offset)
            elif site.after in (After.STUB, After.SAVED):
                unsaved.add(site.offset)
        return saving, unsaved

    def _named(self, section: int, start: int, end: int) -> set[int]:
        """Words that the kernel may patch, or a table names, and those behind them: what looks
        like a free nop there need not be one."""
        found = _between(self._labels.marked, section, start, end)
        for ranges in (self._patched.quiet, self._patched.loud):
            found.update(words_in(ranges.get(section, ()), start, end))
        return found | {place + 4 for place in found}

    def _relocations(self, section: int, start: int, end: int) -> list[Relocation]:
        """The relocations of a range, by r_offset."""
        table, order = self._by_offset(section)
        offset = table.r_offset.__getitem__
        first, last = (bisect_left(order, place, key=offset) for place in (start, end))
        return [table[index] for index in order[first:last]]

    def _branches(
        self, section: int, relocations: Sequence[Relocation]
    ) -> dict[int, tuple[int, int | None]]:
        """Branches with a relocation -> its type, and the section offset that they go to, None for
        another section."""
        symbols = self._elf.symbols
        found: dict[int, tuple[int, int | None]] = {}
        for relocation in relocations:
            if relocation.type in relocs.BRANCHES and symbols is not None:
                home = section_of(symbols, relocation.symbol)
                value = symbols[relocation.symbol].st_value + relocation.r_addend
                target = value if home == section else None
                found[relocation.r_offset] = relocation.type, target
        return found

    def _by_offset(self, section: int) -> tuple[RelaTable, list[int]]:
        """The section's relocations and their indices in the order of r_offset."""
        if section not in self._sorted:
            table = self._elf.relocations(section)
            assert table is not None, "a section with call sites has relocations"
            order = sorted(range(len(table)), key=table.r_offset.tolist().__getitem__)
            self._sorted[section] = table, order
        return self._sorted[section]


def _between(places: Mapping[int, Sequence[int]], section: int, start: int, end: int) -> set[int]:
    """The section offsets among `places` strictly between two."""
    inside = places.get(section, ())
    return set(inside[bisect_right(inside, start) : bisect_left(inside, end)])
