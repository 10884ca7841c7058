"""Which nops of a function can become `std r2,24(r1)`, so that r2 is saved at a call further on.

For each call the nops are searched backwards from it: the nearest one on every path, in the frame
that is live at the call. What was found is put into the code and analysed forwards like any other
save; only what that shows is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import effects
from scpatch.ppc64.tocflow import FRAMED, OWN, SAVED, Flow, Function


def hoist(flow: Flow, places: Iterable[int], nops: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Calls -> the nops before them that can save r2 for them. All are section offsets.

    `places` are calls where r2 is not saved, `nops` the nops of the function that may change. A
    nop is taken only where r2 is the function's own, and so is the frame: in the caller's, 24(r1)
    may hold another TOC pointer.
    """
    usable = {nop for nop in nops if flow.seems(nop, OWN | FRAMED)}
    places = [place for place in places if flow.seems(place, OWN | FRAMED)]
    if not usable or not places or _uses_the_slot(flow):
        return {}
    sources = _sources(flow)
    first: set[int] = set()
    for jump in flow.computed_jumps:
        if not flow.seems(jump, SAVED):
            # Whatever the jump leads to, nothing is saved there that is not saved before it.
            before = _nearest(flow, sources, jump, usable)
            if not before:
                return {}
            first |= before
    found = {place: _nearest(flow, sources, place, usable) for place in places}
    wanted = {
        place: chosen | first
        for place, chosen in found.items()
        if chosen or (first and flow.seems(place, SAVED))
    }
    return _confirmed(flow.function, wanted)


def _uses_the_slot(flow: Flow) -> bool:
    """Whether the function may keep something else than r2 in 24(r1)."""
    return any(
        effects(word).save and word != insn.STD_R2 and not insn.transfers(word)
        for word in set(flow.words)
    )


def _sources(flow: Flow) -> dict[int, list[tuple[int, int]]]:
    """Instruction -> (where control comes from, what is known by this way); without what just runs
    on from the instruction before."""
    found: dict[int, list[tuple[int, int]]] = {}
    for source, target, facts in flow.transfers():
        found.setdefault(target, []).append((source, facts))
    return found


def _nearest(
    flow: Flow, sources: Mapping[int, list[tuple[int, int]]], place: int, usable: set[int]
) -> frozenset[int]:
    """The nearest nops before a call, one on every path; empty where a path has none."""
    function = flow.function
    chosen: set[int] = set()
    seen = {place}
    work = [place]
    while work:
        at = work.pop()
        into = sources.get(at, [])
        if (before := flow.before(at)) is not None:
            into = [*into, before]
        if at == function.entry or at in function.entries or not into:
            return frozenset()
        for source, facts in into:
            if facts & SAVED or source in seen:
                continue
            seen.add(source)
            if source in usable:
                chosen.add(source)
            elif _ends_frame(flow, source):
                return frozenset()
            else:
                work.append(source)
    return frozenset(chosen)


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
            code[at : at + 4] = insn.STD_R2.to_bytes(4, "little")
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
