"""Which nops of a function can become `std r2,24(r1)`, so that r2 is saved at a later call.

For each call the nops are searched backwards: the nearest one on every path, in the frame that is
live at the call. The saves are then put into the code and analysed forwards like any other, and
only what that proves is taken.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import effects
from scpatch.ppc64.variant import SAVE_R2
from scpatch.saved.analysis import FRAMED, SAVED, VALID, Analysis, FunctionCode


def hoist(
    analysis: Analysis, calls: Iterable[int], nops: Collection[int]
) -> dict[int, tuple[int, ...]]:
    """Calls -> the nops before them that can save r2 for them. All are section offsets.

    `analysis` is the one without jumps, `calls` those where r2 is not saved, and `nops` those of
    the function that may change. A nop is taken only where r2 is the function's own, and so is the
    frame: in the caller's, 24(r1) may hold another TOC pointer.
    """
    usable = {nop for nop in nops if analysis.holds(nop, VALID | FRAMED)}
    calls = [call for call in calls if analysis.holds(call, VALID | FRAMED)]
    if not usable or not calls or analysis.uses_the_slot:
        return {}
    # A jump may lead anywhere: nothing is saved there that is not saved before each jump.
    jumps = [jump for jump in analysis.computed_jumps if not analysis.holds(jump, SAVED)]
    nearest = _nearest(analysis, [*calls, *jumps], usable)
    if not all(nearest[jump] for jump in jumps):
        return {}
    first: frozenset[int] = frozenset().union(*{nearest[jump] for jump in jumps})
    candidates = {
        call: nearest[call] | first
        for call in calls
        if nearest[call] or (first and analysis.holds(call, SAVED))
    }
    return _confirmed(analysis.function, candidates)


_NOWHERE: Final = 1
"""The bit for a path on which there is no nop."""


def _nearest(
    analysis: Analysis, places: Collection[int], usable: set[int]
) -> dict[int, frozenset[int]]:
    """The nearest nops before each of `places`, one on every path; none if a path has none. The
    paths that several of them share are walked once."""
    bits = {nop: number for number, nop in enumerate(sorted(usable), start=1)}
    masks, edges = _backwards(analysis, places, bits)
    changed = True
    while changed:  # in the order of the code: two rounds, and one for each loop in a loop
        changed = False
        for place in sorted(edges):
            mask = masks[place]
            for source in edges[place]:
                mask |= masks[source]
            changed |= mask != masks[place]
            masks[place] = mask
    order = list(bits)
    sets = {
        mask: frozenset(() if mask & _NOWHERE else (order[bit - 1] for bit in _set_bits(mask)))
        for mask in {masks[place] for place in places}
    }
    return {place: sets[masks[place]] for place in places}


def _set_bits(mask: int) -> Iterator[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


def _backwards(
    analysis: Analysis, places: Iterable[int], bits: Mapping[int, int]
) -> tuple[dict[int, int], dict[int, list[int]]]:
    """For all instructions from `places` back to the nops in `bits`: the mask of the nops right
    before, and the other instructions right before."""
    function = analysis.function
    sources: dict[int, list[tuple[int, int]]] = {}
    for source, target, facts in analysis.transfers():
        sources.setdefault(target, []).append((source, facts))
    masks: dict[int, int] = {}
    edges: dict[int, list[int]] = {}
    work = [*places]
    while work:
        place = work.pop()
        if place in masks:
            continue
        masks[place], edges[place] = 0, []
        before = analysis.before(place)
        into = [*sources.get(place, ()), *([] if before is None else [before])]
        if place == function.entry or place in function.entries or not into:
            masks[place] = _NOWHERE
            continue
        for source, facts in into:
            if facts & SAVED:
                continue
            if source in bits:
                masks[place] |= 1 << bits[source]
            elif not insn.transfers(word := function.word(source)) and effects(word).r1:
                masks[place] |= _NOWHERE  # it ends the frame
            else:
                edges[place].append(source)
                work.append(source)
    return masks, edges


def _confirmed(
    function: FunctionCode, candidates: Mapping[int, frozenset[int]]
) -> dict[int, tuple[int, ...]]:
    """Those of the calls where r2 is saved once their nops have become saves."""
    while candidates:
        words = array("I", function.words)
        for nop in frozenset().union(*candidates.values()):
            words[nop - function.start >> 2] = SAVE_R2
        analysis = Analysis(function._replace(words=words)).with_jumps()
        proven = {
            call: nops
            for call, nops in candidates.items()
            if analysis.holds(call, VALID | SAVED)
            and all(analysis.holds(nop, VALID | FRAMED) for nop in nops)
        }
        if len(proven) == len(candidates):
            break
        candidates = proven
    return {call: tuple(sorted(nops)) for call, nops in candidates.items()}
