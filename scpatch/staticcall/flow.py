"""Settles the sites that are to be rewritten.

Is the nop reached from its call only, and does r2 lie in the TOC save doubleword already?
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from scpatch.elf.reader import ElfFile, RelaTable, Symbol
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.abi import local_entry_offset
from scpatch.ppc64.tocflow import Function, saved_at
from scpatch.staticcall.labels import Labels, Place
from scpatch.staticcall.model import Site, State
from scpatch.staticcall.symbols import Functions

_STD_R2 = insn.STD_R2.to_bytes(4, "little")


def settle(elf: ElfFile, functions: Functions, labels: Labels, sites: Sequence[Site]) -> list[Site]:
    """The sites with SAVED and SCP202 told from REWRITE."""
    open_sites = [site for site in sites if site.state is State.REWRITE]
    targets = _branch_targets(elf, functions, labels, open_sites)
    settled: dict[tuple[int, int], Site] = {}
    for site in open_sites:
        if (site.section, site.offset + 4) in targets:
            detail = "the nop behind the call is a branch target"
            settled[site.section, site.offset] = replace(
                site, state=State.REFUSED, code="SCP202", detail=detail
            )
    sites = [settled.get((site.section, site.offset), site) for site in sites]
    saved = _saved_sites(elf, functions, labels, sites)
    return [
        replace(site, state=State.SAVED, detail="r2 lies in 24(r1) on every path here")
        if (site.section, site.offset) in saved
        else site
        for site in sites
    ]


def _branch_targets(
    elf: ElfFile, functions: Functions, labels: Labels, sites: Sequence[Site]
) -> set[Place]:
    """Which nops behind `sites` control can reach from elsewhere than from the call."""
    nops = {(site.section, site.offset + 4) for site in sites}
    found: set[Place] = set()
    for section in {section for section, _ in nops}:
        places = [*labels.taken.get(section, ()), *labels.branched.get(section, ())]
        places += [target for target, _ in labels.edges.get(section, ())]
        found |= nops & {(section, place) for place in places}
    scanned: set[tuple[int, int, int]] = set()
    for site in sites:
        if functions.inside(site.section, site.offset + 3, site.offset + 5):
            found.add((site.section, site.offset + 4))
        start, end = _extent(elf, functions, site)
        if (site.section, start, end) not in scanned:
            scanned.add((site.section, start, end))
            code = elf.content(site.section)[start:end]
            found |= nops & {(site.section, to) for to in _direct_targets(code, start)}
    return found


def _extent(elf: ElfFile, functions: Functions, site: Site) -> tuple[int, int]:
    """The function around a site, or the whole section where no sized symbol covers it."""
    index = functions.covering(site.section, site.offset)
    size = len(elf.content(site.section))
    if index is None or elf.symbols is None:
        return 0, size
    symbol = elf.symbols[index]
    return symbol.st_value & ~3, min(symbol.st_value + symbol.st_size, size)


def _direct_targets(code: memoryview, start: int) -> Iterable[int]:
    """Where the relative branches in `code` go; `start` is its section offset.

    Branches are picked by their first byte in one pass, since a section can hold millions of words.
    """
    whole = len(code) & ~3
    words = code[:whole].cast("I")
    for match in re.finditer(rb"[\x40-\x43\x48-\x4b]", bytes(code[3:whole:4])):
        at = match.start()
        target = insn.direct_target(words[at], start + 4 * at)
        if target is not None:
            yield target


def _saved_sites(
    elf: ElfFile, functions: Functions, labels: Labels, sites: Sequence[Site]
) -> set[Place]:
    """Sites before which r2 lies in 24(r1) on every path, in functions that store it at all."""
    symbols = elf.symbols
    by_function: dict[tuple[int, int], list[Site]] = {}
    for site in sites:
        index = functions.covering(site.section, site.offset)
        if index is not None:
            by_function.setdefault((site.section, index), []).append(site)
    object_view = _Surroundings(elf, functions, labels)
    found: set[Place] = set()
    for (section, index), inside in by_function.items():
        places = [site.offset for site in inside if site.state is State.REWRITE]
        if not places or symbols is None:
            continue
        symbol = symbols[index]
        code = bytes(elf.content(section)[symbol.st_value :][: symbol.st_size])
        if _STD_R2 in code and symbol.st_value % 4 == 0:
            function = object_view.function(section, symbol, code, inside)
            found |= {(section, place) for place in saved_at(function, places)}
    return found


class _Surroundings:
    """What the rest of the object says about the control flow of one function."""

    def __init__(self, elf: ElfFile, functions: Functions, labels: Labels) -> None:
        self._elf = elf
        self._functions = functions
        self._labels = labels
        self._sorted: dict[int, tuple[RelaTable, list[int]]] = {}
        self._exceptions = bool(elf.sections_named(".gcc_except_table", prefix=True))

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
        edges = []
        into = labels.edges.get(section, ())
        for target, (home, source) in into[bisect_left(into, (start,)) : bisect_left(into, (end,))]:
            if home == section and start <= source < end:
                edges.append((source, target))
            else:
                entries.add(target)
        return Function(
            code=code,
            start=start,
            entry=entry,
            relocated=self._relocated_branches(section, start, end),
            entries=entries - {entry},
            edges=edges,
            foreign_after=[site.offset for site in sites if site.state is State.REFUSED],
            exceptions=self._exceptions,
        )

    def _relocated_branches(self, section: int, start: int, end: int) -> dict[int, int | None]:
        """Branches with a relocation in a range -> the section offset they go to, None for
        another section."""
        table, order = self._by_offset(section)
        symbols = self._elf.symbols
        found: dict[int, int | None] = {}
        first = bisect_left(order, start, key=table.r_offset.__getitem__)
        for index in order[first:]:
            relocation = table[index]
            if relocation.r_offset >= end:
                break
            if relocation.type in relocs.BRANCHES and symbols is not None:
                home = symbols.section_index(relocation.symbol)
                value = symbols[relocation.symbol].st_value + relocation.r_addend
                found[relocation.r_offset] = value if home == section else None
        return found

    def _by_offset(self, section: int) -> tuple[RelaTable, list[int]]:
        """The section's relocations and their indices in the order of r_offset."""
        if section not in self._sorted:
            table = self._elf.relocations(section)
            assert table is not None, "a section with call sites has relocations"
            order = sorted(range(len(table)), key=table.r_offset.__getitem__)
            self._sorted[section] = table, order
        return self._sorted[section]
