"""For the calls of trampolines in an object: can the nop hold the restore, and what saves r2?

The nop after a call can become `ld r2,24(r1)` only if control reaches it from the call alone. A
call needs no stub if r2 is in 24(r1) on every path to it, or if earlier nops can save it there.
"""

from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import NamedTuple

from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import Symbol
from scpatch.linux.patched import find_patched
from scpatch.ppc64.insn import in_branch_reach
from scpatch.ppc64.variant import SAVE_R2
from scpatch.saved.labels import Location, find_labels
from scpatch.saved.other_calls import OtherCalls
from scpatch.saved.surroundings import (
    CallEffects,
    ObjectFacts,
    SectionFacts,
    section_facts,
)

_MOST_CODE_FOR_A_CALL = 16
"""Bytes of the largest code that is added for a call at the end of its section."""


class After(Enum):
    """What is in r2 after a call of a trampoline, and why."""

    STUB = auto()
    """The caller's TOC: a stub saves r2, and the nop becomes the restore."""
    SAVED = auto()
    """The caller's TOC, if r2 is saved before the call: the call cannot have a stub."""
    KEPT = auto()
    """The caller's TOC: something else preserves r2."""
    CLOBBERED = auto()
    """Perhaps another TOC: the call is refused."""


class Call(NamedTuple):
    """A call of a trampoline. Offsets are section offsets in bytes."""

    section: int
    offset: int
    after: After
    needs_nop: bool = False
    """The nop after the call is to become the restore."""
    may_reuse: bool = False
    """The call can do without a stub if r2 is saved before it."""


class Fault(Enum):
    """Why the nop after a call cannot hold the restore."""

    ENTERED = auto()
    """Control can reach it from elsewhere."""
    PATCHED = auto()
    """The kernel may patch the call and the nop separately."""


class Settled(NamedTuple):
    """By the places of calls."""

    faults: dict[Location, Fault]
    """The calls whose nop is needed and cannot be had."""
    saves: dict[Location, tuple[int, ...]]
    """The calls that need no stub -> the nops that must save r2 for that (section offsets); none if
    the function saves it by itself."""


def settle(
    elf: ElfFile,
    functions: Functions,
    calls: Sequence[Call],
    trampolines: Collection[int],
    *,
    module: bool,
    free_nops: bool,
    image_functions: Collection[str] = (),
) -> Settled:
    """Settles the calls of an object, which must be all those of trampolines and stubs.

    `trampolines` are the symbols that they name; `module` says that the object is a linked kernel
    module, `free_nops` that no linker needs the nop after a call within the object, nor after one
    of `image_functions`, which other objects of the image define.
    """
    by_section: dict[int, list[Call]] = {call.section: [] for call in calls if call.needs_nop}
    for call in calls:
        if call.section in by_section:
            by_section[call.section].append(call)
    whole = ObjectFacts(
        elf,
        functions,
        find_labels(elf, by_section.keys()),
        find_patched(elf),
        OtherCalls(elf, trampolines, module, free_nops, image_functions),
    )
    # The tables of C++ exceptions are not read. They say where the unwinder enters a function, with
    # r2 saved or not.
    throws = elf.sections_named(".gcc_except_table", prefix=True)
    is_readable = not whole.patched.unread and not throws
    settled = Settled({}, {})
    for index, inside in by_section.items():
        offsets = [call.offset for call in inside if call.needs_nop]
        section = section_facts(whole, index, offsets)
        faulty = _faults(section, inside)
        settled.faults.update({(index, offset): fault for offset, fault in faulty.items()})
        if is_readable:
            # Nothing can be done about a call whose nop is faulty.
            left = [
                call._replace(after=After.CLOBBERED, may_reuse=False)
                if call.needs_nop and call.offset in faulty
                else call
                for call in inside
            ]
            saved = _saves(section, left)
            settled.saves.update({(index, offset): nops for offset, nops in saved.items()})
    return settled


def _faults(section: SectionFacts, calls: Sequence[Call]) -> dict[int, Fault]:
    nops = {call.offset + 4 for call in calls if call.needs_nop}
    patched = nops.intersection(section.patches.ends.union(section.labels.changed))
    # Of a nop with both, patching is worse: no restore at all may be there when it runs.
    faults = dict.fromkeys(section.entered(nops), Fault.ENTERED)
    faults |= dict.fromkeys(patched, Fault.PATCHED)
    return {nop - 4: fault for nop, fault in faults.items()}


def _saves(section: SectionFacts, calls: Sequence[Call]) -> dict[int, tuple[int, ...]]:
    """What saves r2 for the calls of a section that may reuse a save."""
    by_function: dict[int, list[Call]] = {}
    for call in calls:
        index = section.whole.functions.covering(section.number, call.offset)
        if index is not None:
            by_function.setdefault(index, []).append(call)
    symbols = section.whole.elf.symbols
    end = section.whole.elf.sections[section.number].sh_size
    end += _MOST_CODE_FOR_A_CALL * (len(calls) + 1)
    saves: dict[int, tuple[int, ...]] = {}
    for index, inside in by_function.items():
        places = [call.offset for call in inside if call.may_reuse]
        if symbols is None or symbols[index].st_value % 4 or not places:
            continue
        symbol, effects = symbols[index], _effects(inside, end)
        if not _may_save(section, symbol, effects, places):
            continue
        # Most objects of a build have no such function, and need not load this either.
        from scpatch.saved.function import saves_in

        saves |= saves_in(section, symbol, effects, places)
    return saves


def _may_save(
    section: SectionFacts, function: Symbol, effects: CallEffects, places: Sequence[int]
) -> bool:
    """Whether something in a function may save r2 before one of the calls at `places`. Most have
    one call and no save, and an analysis takes longer than all else that is done for a call."""
    others, elf = section.whole.others, section.whole.elf
    if others.module or others.free or any(effects.saving - {place} for place in places):
        return True
    code = elf.content(section.number)[function.st_value :][: function.st_size]
    return elf.encoding.pack_words(SAVE_R2) in bytes(code)


def _effects(calls: Sequence[Call], end: int) -> CallEffects:
    """What the calls of a function do to r2. One that cannot reach its stub, at the latest at `end`
    of the section, gets none."""
    effects = CallEffects(set(), set(), set())
    for call in calls:
        if call.after is After.CLOBBERED:
            effects.clobbering.add(call.offset)
        elif call.after is After.STUB and in_branch_reach(end - call.offset):
            effects.saving.add(call.offset)
        elif call.after in (After.STUB, After.SAVED):
            effects.restoring.add(call.offset)
    return effects
