"""For the calls of trampolines in one object: can the nop hold the restore, and who saves r2?

The nop after a call can become `ld r2,24(r1)` only if control reaches it from the call alone. A
call needs no stub if r2 is in 24(r1) on every path to it, or if nops before it can save it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile
from scpatch.linux.patched import find_patched
from scpatch.ppc64.branches import branches_into
from scpatch.saved.calls import After, Call
from scpatch.saved.hoist import hoist
from scpatch.saved.labels import Labels, Place, find_labels
from scpatch.saved.other_calls import OtherCalls
from scpatch.saved.surroundings import Direct, Surroundings
from scpatch.saved.tocflow import OWN, SAVED, Flow


class Fault(Enum):
    """Why the nop after a call cannot hold the restore."""

    ENTERED = auto()
    """Control can reach it from elsewhere."""
    PATCHED = auto()
    """The kernel may patch the call and the nop separately."""


class Settled(NamedTuple):
    faults: Mapping[Place, Fault]
    """By the place of the call, of those that need the nop."""
    saves: Mapping[Place, tuple[int, ...]]
    """Calls before which r2 is saved on every path -> the nops that must save it for that; none if
    the function does it by itself."""


def settle(
    elf: ElfFile,
    functions: Functions,
    calls: Sequence[Call],
    trampolines: Collection[int],
    *,
    module: bool,
    free_nops: bool,
) -> Settled:
    """Settles the calls of an object, which must be all that name a trampoline or a stub.

    `trampolines` are the symbols that they name; `module` says that the object is a linked kernel
    module, `free_nops` that no linker needs the nop after a call within the object.
    """
    nops = [call for call in calls if call.needs_nop]
    labels = find_labels(elf, {call.section for call in nops})
    patched = find_patched(elf)
    direct = _direct_branches(elf, functions, nops)
    entered = _branch_targets(functions, labels, direct, nops)
    changed = {(section, at) for section, here in labels.changed.items() for at in here}
    changed |= {(section, at) for section, here in patched.ends.items() for at in here}
    faults: dict[Place, Fault] = {}
    for section, offset, *_ in nops:
        if (section, offset + 4) in entered:
            faults[section, offset] = Fault.ENTERED
        elif (section, offset + 4) in changed:
            faults[section, offset] = Fault.PATCHED
    if patched.unread:
        return Settled(faults, {})
    calls = [
        call._replace(after=After.CLOBBERED, may_reuse=False)
        if call.needs_nop and call[:2] in faults
        else call
        for call in calls
    ]
    others = OtherCalls(elf, trampolines, module=module, free=free_nops)
    surroundings = Surroundings(elf, functions, labels, direct, patched, others)
    return Settled(faults, _saves(surroundings, elf, functions, calls))


def _branch_targets(
    functions: Functions, labels: Labels, direct: Direct, calls: Sequence[Call]
) -> set[Place]:
    """Which nops after `calls` control can reach from elsewhere than from the call."""
    nops = {(call.section, call.offset + 4) for call in calls}
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


def _direct_branches(elf: ElfFile, functions: Functions, calls: Sequence[Call]) -> Direct:
    """The branches to a nop after one of `calls`, or into the function around it, from anywhere
    in the section: hand-written code may branch into its neighbour."""
    ranges: dict[int, set[tuple[int, int]]] = {}
    for call in calls:
        inside = ranges.setdefault(call.section, set())
        inside.add((call.offset + 4, call.offset + 8))
        index = functions.covering(call.section, call.offset)
        if index is not None and elf.symbols is not None:
            symbol = elf.symbols[index]
            inside.add((symbol.st_value, symbol.st_value + symbol.st_size))
    return {section: branches_into(elf.content(section), ranges[section]) for section in ranges}


def _saves(
    surroundings: Surroundings, elf: ElfFile, functions: Functions, calls: Sequence[Call]
) -> dict[Place, tuple[int, ...]]:
    """What saves r2 for the calls that may reuse a save.

    Nothing in an object with C++ exceptions: its tables say in a form that is not read here where
    the unwinder enters a function, from calls with anything or nothing saved.
    """
    symbols = elf.symbols
    if symbols is None or elf.sections_named(".gcc_except_table", prefix=True):
        return {}
    by_function: dict[tuple[int, int], list[Call]] = {}
    number = Counter(call.section for call in calls)
    for call in calls:
        index = functions.covering(call.section, call.offset)
        if index is not None:
            by_function.setdefault((call.section, index), []).append(call)
    saves: dict[Place, tuple[int, ...]] = {}
    for (section, index), inside in by_function.items():
        places = [call.offset for call in inside if call.may_reuse]
        symbol = symbols[index]
        if not places or symbol.st_value % 4:
            continue
        code = bytes(elf.content(section)[symbol.st_value :][: symbol.st_size])
        function, nops = surroundings.function(section, symbol, code, inside, number[section])
        flow = Flow(function)
        saved = {place: () for place in places if flow.holds(place, OWN | SAVED)}
        rest = [place for place in places if place not in saved]
        by_call = {**saved, **(hoist(flow, rest, nops) if nops and rest else {})}
        saves |= {(section, place): by_call[place] for place in by_call}
    return saves
