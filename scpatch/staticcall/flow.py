"""Settles the sites that are to be rewritten.

Is the nop reached from its call only, and does r2 lie in the TOC save doubleword already?
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.elf.symtab import Symbol
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.abi import local_entry_offset
from scpatch.ppc64.tocflow import Function, saved_at
from scpatch.staticcall.branches import branches_into
from scpatch.staticcall.labels import Labels, Place
from scpatch.staticcall.model import Site, State
from scpatch.staticcall.symbols import Functions

_STD_R2 = insn.STD_R2.to_bytes(4, "little")


def settle(
    elf: ElfFile,
    functions: Functions,
    labels: Labels,
    sites: Sequence[Site],
    loadable: frozenset[int],
) -> list[Site]:
    """The sites with SAVED and SCP202 told from REWRITE.

    Calls of the symbols `loadable` get a stub wherever r2 lies.
    """
    open_sites = [site for site in sites if site.state is State.REWRITE]
    direct = _direct_branches(elf, functions, open_sites)
    targets = _branch_targets(functions, labels, direct, open_sites)
    settled: dict[tuple[int, int], Site] = {}
    for site in open_sites:
        if (site.section, site.offset + 4) in targets:
            detail = "the nop behind the call is a branch target"
            settled[site.section, site.offset] = site._replace(
                state=State.REFUSED, code="SCP202", detail=detail
            )
    sites = [settled.get((site.section, site.offset), site) for site in sites]
    saved = _saved_sites(_Surroundings(elf, functions, labels, direct), elf, functions, sites)
    return [
        site._replace(state=State.SAVED, detail="r2 lies in 24(r1) on every path here")
        if (site.section, site.offset) in saved and site.symbol not in loadable
        else site
        for site in sites
    ]


def _branch_targets(
    functions: Functions, labels: Labels, direct: Direct, sites: Sequence[Site]
) -> set[Place]:
    """Which nops behind `sites` control can reach from elsewhere than from the call."""
    nops = {(site.section, site.offset + 4) for site in sites}
    found: set[Place] = set()
    for section in {section for section, _ in nops}:
        places = [*labels.taken.get(section, ()), *labels.branched.get(section, ())]
        places += [target for target, _ in labels.edges.get(section, ())]
        found |= nops & {(section, place) for place in places}
        found |= nops & {(section, target) for target, _ in direct[section]}
    for section, place in nops:
        if functions.inside(section, place - 1, place + 1):
            found.add((section, place))
    return found


Direct = dict[int, list[tuple[int, int]]]
"""Section index -> (target, branch) of branches without a relocation, sorted."""


def _direct_branches(elf: ElfFile, functions: Functions, sites: Sequence[Site]) -> Direct:
    """The branches to a nop behind one of `sites`, or into the function around it where that one
    saves r2, from anywhere in the section: hand-written code may branch into its neighbour."""
    ranges: dict[int, set[tuple[int, int]]] = {}
    for site in sites:
        inside = ranges.setdefault(site.section, set())
        inside.add((site.offset + 4, site.offset + 8))
        index = functions.covering(site.section, site.offset)
        if index is not None and elf.symbols is not None:
            symbol = elf.symbols[index]
            if _STD_R2 in _code(elf, site.section, symbol):
                inside.add((symbol.st_value, symbol.st_value + symbol.st_size))
    return {section: branches_into(elf.content(section), ranges[section]) for section in ranges}


def _code(elf: ElfFile, section: int, symbol: Symbol) -> bytes:
    return bytes(elf.content(section)[symbol.st_value :][: symbol.st_size])


def _saved_sites(
    surroundings: _Surroundings, elf: ElfFile, functions: Functions, sites: Sequence[Site]
) -> set[Place]:
    """Sites before which r2 lies in 24(r1) on every path, in functions that store it at all.

    None in an object with C++ exceptions: its tables say in a form that is not read here where
    the unwinder enters a function, from calls with anything or nothing saved.
    """
    if elf.sections_named(".gcc_except_table", prefix=True):
        return set()
    symbols = elf.symbols
    by_function: dict[tuple[int, int], list[Site]] = {}
    for site in sites:
        index = functions.covering(site.section, site.offset)
        if index is not None:
            by_function.setdefault((site.section, index), []).append(site)
    found: set[Place] = set()
    for (section, index), inside in by_function.items():
        places = [site.offset for site in inside if site.state is State.REWRITE]
        if not places or symbols is None:
            continue
        symbol = symbols[index]
        code = _code(elf, section, symbol)
        if _STD_R2 in code and symbol.st_value % 4 == 0:
            function = surroundings.function(section, symbol, code, inside)
            found |= {(section, place) for place in saved_at(function, places)}
    return found


class _Surroundings:
    """What the rest of the object says about the control flow of one function."""

    def __init__(self, elf: ElfFile, functions: Functions, labels: Labels, direct: Direct) -> None:
        self._elf = elf
        self._functions = functions
        self._labels = labels
        self._direct = direct
        self._sorted: dict[int, tuple[RelaTable, list[int]]] = {}

    def function(
        self, section: int, symbol: Symbol, code: bytes, sites: Sequence[Site]
    ) -> Function:
        start = symbol.st_value
        end = start + len(code)
        entry = start + local_entry_offset(symbol.st_other)
        entries = set(self._functions.inside(section, start, end))
        labels = self._labels
        for places in (labels.taken, labels.relative, labels.branched):
            inside = places.get(section, ())
            entries |= set(inside[bisect_right(inside, start) : bisect_left(inside, end)])
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
        branches = self._branches(section, start, end)
        foreign = [at for at, (kind, _) in branches.items() if kind in relocs.NOTOC]
        return Function(
            code=code,
            start=start,
            entry=entry,
            relocated={at: target for at, (_, target) in branches.items()},
            entries=entries - {entry},
            edges=edges,
            foreign_after=foreign + [s.offset for s in sites if s.state is State.REFUSED],
        )

    def _branches(self, section: int, start: int, end: int) -> dict[int, tuple[int, int | None]]:
        """Branches with a relocation in a range -> its type, and the section offset that they go
        to, None for another section."""
        table, order = self._by_offset(section)
        symbols = self._elf.symbols
        found: dict[int, tuple[int, int | None]] = {}
        offset = table.r_offset.__getitem__
        first, last = (bisect_left(order, place, key=offset) for place in (start, end))
        for index in order[first:last]:
            relocation = table[index]
            if relocation.type in relocs.BRANCHES and symbols is not None:
                home = symbols.section_index(relocation.symbol)
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
