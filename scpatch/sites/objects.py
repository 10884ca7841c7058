"""Finds the trampolines and call sites of an object, and what each site is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from scpatch.elf.functions import Functions
from scpatch.elf.reader import ElfFile
from scpatch.sites.choices import Choices, Hoist, Undefined
from scpatch.sites.judge import Judge
from scpatch.sites.model import Kind, Place, Scan, Site, Stub, Traces, Trampoline
from scpatch.sites.references import Reference, find_references, resolved_calls
from scpatch.sites.symbols import find_in


def scan_object(elf: ElfFile, choices: Choices, traces: Traces) -> Scan:
    """The trampolines and call sites, in section and offset order. `traces` are what earlier
    rewrites have left in the object."""
    module = is_module(elf)
    if elf.symbols is None:
        return Scan(module=module, choices=choices)
    named = [
        trampoline._replace(in_data=_is_in_data(elf, trampoline))
        for trampoline in find_in(elf, elf.symbols, choices.trampolines)
    ]
    if not named and not traces.stubs:
        return Scan(module=module, strategies=traces.strategies, choices=choices)
    trampolines = [trampoline for trampoline in named if trampoline.is_code]
    references = [
        *find_references(elf, named, traces.stubs),
        *resolved_calls(elf, trampolines, traces.stubs),
    ]
    functions = Functions(elf, {reference.section for reference in references})
    judge = Judge(elf, functions, choices, trampolines, module=module)
    sites = [judge.site(call) for call in _calls(references, traces)]
    sites.sort(key=lambda site: (site.section, site.offset))
    callees = tuple(trampolines), traces.stubs
    scan = Scan(*callees, tuple(sites), module, traces.strategies, choices=choices)
    if any(site.kind in _NEEDS_NOP for site in sites):
        named_symbols = frozenset(reference.callee.symbol for reference in references)
        sites = _settle(elf, functions, scan, named_symbols, keeps=traces.keeps)
    return scan._replace(sites=tuple(sites))


def _is_in_data(elf: ElfFile, trampoline: Trampoline) -> bool:
    return trampoline.defined and not elf.is_executable(trampoline.section)


def is_module(elf: ElfFile) -> bool:
    """Whether the object is a linked kernel module: only those have `struct module` in them."""
    return bool(elf.sections_named(".gnu.linkonce.this_module"))


def _calls(references: Sequence[Reference], traces: Traces) -> list[Reference]:
    """The references but those inside stubs, and those of a trampoline to itself. Stubs lead to
    trampolines only. A branch counts once, however many relocations apply to it."""
    places = sorted((reference.section, reference.offset) for reference in references)
    in_stubs: set[Place] = set()
    for stub in traces.stubs:
        limits = (stub.section, stub.value), (stub.section, stub.value + stub.size)
        first, end = (bisect_left(places, limit) for limit in limits)
        in_stubs.update(places[first:end])

    def is_call(reference: Reference) -> bool:
        callee, section, offset = reference.callee, reference.section, reference.offset
        if isinstance(callee, Stub):
            return True
        if section == callee.section and 0 <= offset - callee.value < callee.size:
            return False
        return (section, offset) not in in_stubs and (section, offset) not in traces.copies

    calls = {(call.section, call.offset): call for call in references if is_call(call)}
    return list(calls.values())


_NEEDS_NOP = frozenset({Kind.OPEN, Kind.UNNAMED})


def _settle(
    elf: ElfFile, functions: Functions, scan: Scan, callees: frozenset[int], *, keeps: bool
) -> list[Site]:
    """The sites, with what the function tells: can the nop hold a restore, is r2 saved?

    `callees` are the symbols of all trampolines and stubs that the object refers to.
    """
    # Most objects of a build have no such site, and need not load this either.
    from scpatch.saved.settle import After, Call, Fault, settle

    choices = scan.choices
    loaded = scan.module or choices.undefined is not Undefined.REWRITE

    def call(site: Site) -> Call:
        after = After.CLOBBERED if site.code else After.KEPT
        callee, reuse = site.callee, False
        if site.kind is Kind.OPEN and isinstance(callee, Trampoline):
            marked = _is_marked(scan, callee)
            # The loader stubs a call of what a module does not define, and wants a nop for that.
            reuse = not marked and not (loaded and callee.loaded)
            if not keeps and not marked:
                after = After.STUB if callee.fits_stub else After.SAVED
        return Call(site.section, site.offset, after, site.kind in _NEEDS_NOP, reuse)

    hoist = scan.module if choices.hoist is Hoist.AUTO else choices.hoist is Hoist.KERNEL
    calls = [call(site) for site in scan.sites]
    faults, saves = settle(
        elf,
        functions,
        calls,
        callees,
        module=scan.module,
        free_nops=hoist and not keeps,
        image_functions=choices.image_functions,
    )

    def judged(site: Site) -> Site:
        place, callee = (site.section, site.offset), site.callee
        fault = faults.get(place)
        is_marked = isinstance(callee, Trampoline) and _is_marked(scan, callee)
        if fault is Fault.ENTERED:
            # The restore that a linker makes needs a save on every path, whatever is wanted here.
            kind = Kind.FAULTY if is_marked else Kind.ENTERED
            return site.fault("SCP202", "the nop after the call is a branch target", kind)
        if fault is Fault.PATCHED:
            detail = "the kernel patches the call and the nop after it separately"
            return site.fault("SCP240", detail, Kind.PATCHED)
        if site.kind is Kind.OPEN and is_marked:
            return site._replace(kind=Kind.LINKER, detail="the trampoline has st_other = 1")
        if place in saves:
            return site._replace(saved=True, saves=saves[place])
        return site

    return [judged(site) for site in scan.sites]


def _is_marked(scan: Scan, trampoline: Trampoline) -> bool:
    """Whether a linker sees to the calls of a trampoline that name it."""
    return trampoline.marked and not scan.module and not scan.choices.unmark
