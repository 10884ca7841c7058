"""What saves r2 for the calls of one function, by its code and what the object says about it."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.functions import section_of
from scpatch.elf.structures import Relocation, Symbol
from scpatch.elf.symtab import SymbolTable
from scpatch.linux.patched import words_in
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.variant import SAVE_R2, local_entry_offset
from scpatch.saved.analysis import SAVED, VALID, Analysis, FunctionCode
from scpatch.saved.hoist import hoist
from scpatch.saved.surroundings import CallEffects, SectionFacts

_TWO_WORDS = frozenset({38, 43, 44, 51})  # ADDR64, UADDR64, REL64, TOC


def saves_in(
    section: SectionFacts, symbol: Symbol, effects: CallEffects, places: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """Those of the calls at `places` that need no stub -> the nops that must save r2 for that; none
    if the function saves it by itself. All are section offsets."""
    function, nops = describe(section, symbol, effects)
    analysis = Analysis(function)
    with_jumps = analysis.with_jumps()
    saves: dict[int, tuple[int, ...]]
    saves = {place: () for place in places if with_jumps.holds(place, VALID | SAVED)}
    unsaved = [place for place in places if place not in saves]
    return saves | hoist(analysis, unsaved, nops) if nops and unsaved else saves


def describe(
    section: SectionFacts, symbol: Symbol, calls: CallEffects
) -> tuple[FunctionCode, set[int]]:
    """The function, and the nops in it that may become a save of r2 (section offsets)."""
    symbols, start = section.whole.elf.symbols, symbol.st_value
    assert symbols is not None, "one of them is the function's"
    code = section.whole.elf.content(section.number)[start:][: symbol.st_size]
    end, words = start + len(code), section.whole.elf.encoding.words(code)
    entry = start + local_entry_offset(symbol.st_other)
    entries, edges = _ways_in(section, start, end)
    relocations = section.relocations(start, end)
    targets = _targets(section, relocations)
    linkers = _changeable(words, start, relocations, symbols)
    quiet = set(words_in(section.patches.quiet, start, end))
    loud = set(words_in(section.patches.loud, start, end))
    saving, nops = section.whole.others.judge(words, start, relocations)
    notoc = {item.r_offset for item in relocations if item.type in relocs.NOTOC}
    for nop in linkers.saves:  # they are unsure all the same
        words[nop - start >> 2] = SAVE_R2
    function = FunctionCode(
        words=words,
        start=start,
        entry=entry,
        targets=targets,
        entries=entries - {entry},
        edges=edges,
        clobbering=calls.clobbering | notoc,
        saving=calls.saving | saving,
        restoring=calls.restoring,
        unsure=linkers.unsure | quiet | _between(section.labels.changed, start - 4, end),
        unknown=linkers.unknown | loud,
    )
    # What looks like a free nop need not be one where the kernel patches, or a table names, it or
    # the call before it.
    named = _between(section.labels.marked, start, end) | quiet | loud
    return function, nops - named - {place + 4 for place in named}


def _ways_in(section: SectionFacts, start: int, end: int) -> tuple[set[int], list[tuple[int, int]]]:
    """Where control may enter a function from outside, and (from, to) of transfers inside that the
    code does not show."""
    labels, branches = section.labels, section.branches
    entries = _between(labels.named, start, end)
    entries |= _between(labels.taken, start, end) | _between(labels.branched, start, end)
    entries.update(words_in(labels.possible, start + 4, end))
    into = branches[bisect_left(branches, (start + 1,)) : bisect_left(branches, (end,))]
    entries.update(target for target, source in into if not start <= source < end)
    edges = []
    pairs = labels.edges
    for target, (home, source) in pairs[bisect_left(pairs, (start,)) : bisect_left(pairs, (end,))]:
        if home == section.number and start <= source < end:
            edges.append((source, target))
        else:
            entries.add(target)
    return entries, edges


def _targets(section: SectionFacts, relocations: Iterable[Relocation]) -> dict[int, int | None]:
    """Relocated branches -> the section offset that they go to, None for another section."""
    symbols = section.whole.elf.symbols
    return {
        relocation.r_offset: symbols[relocation.symbol].st_value + relocation.r_addend
        if section_of(symbols, relocation.symbol) == section.number
        else None
        for relocation in relocations
        if relocation.type in relocs.BRANCHES and symbols is not None
    }


def _between(places: Sequence[int], start: int, end: int) -> set[int]:
    """Those of some sorted section offsets that are strictly between two."""
    return set(places[bisect_right(places, start) : bisect_left(places, end)])


class _Changeable(NamedTuple):
    """Section offsets of instructions that a linker may change."""

    unsure: set[int]
    """Those that may be nops."""
    unknown: set[int]
    """Those that may be anything: a relocation fills in their displacement from r1."""
    saves: set[int]
    """Nops that GNU ld may turn into `std r2,24(r1)` (R_PPC64_TOCSAVE)."""


def _changeable(
    words: "array[int]", start: int, relocations: Sequence[Relocation], symbols: SymbolTable
) -> _Changeable:
    """What the relocations of a function allow a linker; `start` is its section offset.

    A linker may replace an instruction that carries a marker, and makes a nop of a branch to a weak
    symbol that nobody defines. What the kernel changes is in `scpatch.linux.patched`. Source: GNU
    ld, ppc64_elf_relocate_section, ppc64_elf_inline_plt, ppc64_elf_tls_optimize.
    """
    changes = _Changeable(set(), set(), set())
    for item in relocations:
        at, kind = item.r_offset & ~3, item.type
        if kind == relocs.R_PPC64_NONE:
            continue
        is_plain = kind in relocs.BRANCHES and kind not in relocs.PLT_CALLS
        if not is_plain or _is_weak(symbols, item.symbol):
            changes.unsure.add(at)
        if kind in relocs.PLT_CALLS | relocs.TLS_CALLS or kind in _TWO_WORDS:
            changes.unsure.add(at + 4)
        elif kind == relocs.R_PPC64_PCREL_OPT:
            changes.unsure.add((item.r_offset + item.r_addend) & ~3)
        index = at - start >> 2
        word = words[index] if 0 <= index < len(words) else 0
        if kind == relocs.R_PPC64_TOCSAVE:
            if word in insn.NOPS:
                changes.saves.add(at)
        elif kind not in relocs.BRANCHES | relocs.MARKERS and insn.base_is_r1(word):
            changes.unknown.add(at)
    return changes


def _is_weak(symbols: SymbolTable, index: int) -> bool:
    return symbols[index].binding == c.STB_WEAK and symbols.section_index(index) == c.SHN_UNDEF
