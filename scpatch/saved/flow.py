"""Settles the sites that are to be rewritten.

Is the nop reached from its call only, and does r2 lie in the TOC save doubleword already, or can it
be put there by a nop that nobody needs?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from scpatch.elf.reader import ElfFile
from scpatch.elf.symtab import Symbol
from scpatch.linux.patched import Patched
from scpatch.ppc64.branches import branches_into
from scpatch.saved.hoist import hoist
from scpatch.saved.labels import Labels, Place
from scpatch.saved.other_calls import OtherCalls
from scpatch.saved.surroundings import Direct, Surroundings
from scpatch.saved.tocflow import OWN, SAVED, Flow
from scpatch.sites.model import Site, State
from scpatch.sites.symbols import Functions


class Around(NamedTuple):
    """What settling takes of an object beside its sites."""

    elf: ElfFile
    functions: Functions
    labels: Labels
    patched: Patched
    calls: OtherCalls
    stubless: frozenset[int]
    """The symbols whose calls get no stub, since something else makes them right."""
    unfit: frozenset[int] = frozenset()
    """Those of trampolines that no stub can branch to."""


def settle(around: Around, sites: Sequence[Site], unsaved: Collection[int]) -> list[Site]:
    """The sites with SAVED and SCP202 told from REWRITE.

    Calls of the symbols `unsaved` get a stub wherever r2 lies.
    """
    elf, functions, labels, patched = around[:4]
    open_sites = [site for site in sites if site.state is State.REWRITE]
    direct = _direct_branches(elf, functions, open_sites)
    targets = _branch_targets(functions, labels, direct, open_sites)
    changed = {(section, at) for section, here in labels.changed.items() for at in here}
    changed |= {(section, at) for section, here in patched.ends.items() for at in here}
    sites = [_usable(site, targets, changed) for site in sites]
    surroundings = Surroundings(
        elf, functions, labels, direct, patched, around.calls, around.stubless, around.unfit
    )
    saved = {} if patched.unread else _saved_sites(surroundings, elf, functions, sites, unsaved)
    return [_saved(site, saved.get((site.section, site.offset))) for site in sites]


def _usable(site: Site, targets: Collection[Place], changed: Collection[Place]) -> Site:
    """The site, refused where the nop behind the call cannot hold the restore."""
    nop = site.section, site.offset + 4
    if site.state is not State.REWRITE:
        return site
    if nop in targets:
        detail, code = "the nop behind the call is a branch target", "SCP202"
    elif nop in changed:
        detail, code = "the kernel patches the call and the nop behind it apart", "SCP240"
    else:
        return site
    return site._replace(state=State.REFUSED, code=code, detail=detail)


def _saved(site: Site, nops: Sequence[int] | None) -> Site:
    """The site as one that needs no stub where `nops` is not None."""
    if nops is None:
        return site
    detail = "r2 lies in 24(r1) on every path here"
    if nops:
        where = ", ".join(f"{site.section_name}+{nop:#x}" for nop in nops)
        detail = f"r2 can be saved in {where}, behind earlier calls"
    return site._replace(state=State.SAVED, detail=detail, saves=tuple(nops))


def _branch_targets(
    functions: Functions, labels: Labels, direct: Direct, sites: Sequence[Site]
) -> set[Place]:
    """Which nops behind `sites` control can reach from elsewhere than from the call."""
    nops = {(site.section, site.offset + 4) for site in sites}
    found: set[Place] = set()
    for section in {section for section, _ in nops}:
        places: list[int] = [*labels.taken.get(section, ()), *labels.branched.get(section, ())]
        places += [target for target, _ in labels.edges.get(section, ())]
        found |= nops & {(section, place) for place in places}
        found |= nops & {(section, target) for target, _ in direct[section]}
    for section, place in nops:
        if functions.inside(section, place - 1, place + 1):
            found.add((section, place))
    return found


def _direct_branches(elf: ElfFile, functions: Functions, sites: Sequence[Site]) -> Direct:
    """The branches to a nop behind one of `sites`, or into the function around it, from anywhere
    in the section: hand-written code may branch into its neighbour."""
    ranges: dict[int, set[tuple[int, int]]] = {}
    for site in sites:
        inside = ranges.setdefault(site.section, set())
        inside.add((site.offset + 4, site.offset + 8))
        index = functions.covering(site.section, site.offset)
        if index is not None and elf.symbols is not None:
            symbol = elf.symbols[index]
            inside.add((symbol.st_value, symbol.st_value + symbol.st_size))
    return {section: branches_into(elf.content(section), ranges[section]) for section in ranges}


def _code(elf: ElfFile, section: int, symbol: Symbol) -> bytes:
    return bytes(elf.content(section)[symbol.st_value :][: symbol.st_size])


def _saved_sites(
    surroundings: Surroundings,
    elf: ElfFile,
    functions: Functions,
    sites: Sequence[Site],
    unsaved: Collection[int],
) -> dict[Place, tuple[int, ...]]:
    """Sites before which r2 lies in 24(r1) on every path -> the nops that must save it for that.

    None in an object with C++ exceptions: its tables say in a form that is not read here where
    the unwinder enters a function, from calls with anything or nothing saved. None of the symbols
    `unsaved`.
    """
    if elf.sections_named(".gcc_except_table", prefix=True):
        return {}
    symbols = elf.symbols
    by_function: dict[tuple[int, int], list[Site]] = {}
    number = Counter(site.section for site in sites)
    for site in sites:
        index = functions.covering(site.section, site.offset)
        if index is not None:
            by_function.setdefault((site.section, index), []).append(site)
    found: dict[Place, tuple[int, ...]] = {}
    for (section, index), inside in by_function.items():
        places = [
            site.offset
            for site in inside
            if site.state is State.REWRITE and site.symbol not in unsaved
        ]
        if not places or symbols is None:
            continue
        symbol = symbols[index]
        code = _code(elf, section, symbol)
        if symbol.st_value % 4 == 0:
            function, nops = surroundings.function(section, symbol, code, inside, number[section])
            flow = Flow(function)
            saved = {place: () for place in places if flow.holds(place, OWN | SAVED)}
            rest = [place for place in places if place not in saved]
            by_site = {**saved, **(hoist(flow, rest, nops) if nops and rest else {})}
            found |= {(section, place): by_site[place] for place in by_site}
    return found
