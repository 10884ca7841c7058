"""Which nops of a function can become `std r2,24(r1)`, so that r2 is saved at a call further on.

For each call the nops are searched backwards from it: the nearest one on every path, in the frame
that is live at the call. What was found is put into the code and analysed forwards like any other
save; only what that shows is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import effects
from scpatch.ppc64.variant import VARIANT
from scpatch.saved.tocflow import FRAMED, OWN, SAVED, Flow, Function


def hoist(flow: Flow, places: Iterable[int], nops: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Calls -> the nops before them that can save r2 for them. All are section offsets.

    `places` are calls where r2 is not saved, `nops` the nops of the function that may change. A
    nop is taken only where r2 is the function's own, and so is the frame: in the caller's, 24(r1)
    may hold another TOC pointer.
    """
    usable = {nop for nop in nops if flow.seems(nop, OWN | FRAMED)}
    places = [place for place in places if flow.seems(place, OWN | FRAMED)]
    if not usable or not places or flow.uses_the_slot:
        return {}
    # Whatever a jump leads to, nothing is saved there that is not saved before it.
    jumps = [jump for jump in flow.computed_jumps if not flow.seems(jump, SAVED)]
    nearest = _nearest(flow, [*places, *jumps], usable)
    if not all(nearest[jump] for jump in jumps):
        return {}
    first: frozenset[int] = frozenset().union(*{nearest[jump] for jump in jumps})
    wanted = {
        place: nearest[place] | first
        for place in places
        if nearest[place] or (first and flow.seems(place, SAVED))
    }
    return _confirmed(flow.function, wanted)


def _sources(flow: Flow) -> dict[int, list[tuple[int, int]]]:
    """Instruction -> (where control comes from, what is known by this way); without what just runs
    on from the instruction before."""
    found: dict[int, list[tuple[int, int]]] = {}
    for source, target, facts in flow.transfers():
        found.setdefault(target, []).append((source, facts))
    return found


_NOWHERE: Final = 1
"""The bit for a way on which there is no nop."""


def _nearest(flow: Flow, places: Collection[int], usable: set[int]) -> dict[int, frozenset[int]]:
    """The nearest nops before each of some instructions, one on every path; none where a path has
    none. Whatever many of them have before them is looked at once."""
    bits = {nop: number for number, nop in enumerate(sorted(usable), start=1)}
    found, edges = _backwards(flow, places, bits)
    changed = True
    while changed:  # in the order of the code: two rounds, and one for each loop in a loop
        changed = False
        for at in sorted(edges):
            mask = found[at]
            for source in edges[at]:
                mask |= found[source]
            changed |= mask != found[at]
            found[at] = mask
    order = list(bits)
    sets = {
        mask: frozenset(() if mask & _NOWHERE else (order[bit - 1] for bit in _ones(mask)))
        for mask in {found[place] for place in places}
    }
    return {place: sets[found[place]] for place in places}


def _ones(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


def _backwards(
    flow: Flow, places: Iterable[int], bits: Mapping[int, int]
) -> tuple[dict[int, int], dict[int, list[int]]]:
    """For all instructions from `places` back to the nops in `bits`: the mask of the nops right
    before, and the other instructions right before."""
    function, sources = flow.function, _sources(flow)
    found: dict[int, int] = {}
    edges: dict[int, list[int]] = {}
    work = [*places]
    while work:
        at = work.pop()
        if at in found:
            continue
        found[at], edges[at] = 0, []
        into = sources.get(at, [])
        if (before := flow.before(at)) is not None:
            into = [*into, before]
        if at == function.entry or at in function.entries or not into:
            found[at] = _NOWHERE
            continue
        for source, facts in into:
            if facts & SAVED:
                continue
            if source in bits:
                found[at] |= 1 << bits[source]
            elif _ends_frame(flow, source):
                found[at] |= _NOWHERE
            else:
                edges[at].append(source)
                work.append(source)
    return found, edges


def _ends_frame(flow: Flow, place: int) -> bool:
    word = flow.words[place - flow.function.start >> 2]
    return not insn.transfers(word) and effects(word).r1


def _confirmed(
    function: Function, found: Mapping[int, frozenset[int]]
) -> dict[int, tuple[int, ...]]:
    """Those of the calls where r2 is saved when their nops are what they are to become."""
    while found:
        code = bytearray(function.code)
        for nop in frozenset().union(*found.values()):
            at = nop - function.start
            code[at : at + 4] = VARIANT.encode(VARIANT.save_r2)
        flow = Flow(function._replace(code=bytes(code)))
        good = {
            place: nops
            for place, nops in found.items()
            if flow.holds(place, OWN | SAVED) and all(flow.holds(n, OWN | FRAMED) for n in nops)
        }
        if len(good) == len(found):
            break
        found = good
    return {place: tuple(sorted(nops)) for place, nops in found.items()}
