"""Call sites of a linked image, found by decoding its branches.

The linker has resolved the calls, so that there is nothing but the instruction words and the symbol
table. A call site is a `bl` to an entry point of a trampoline; or to a stub that a rewrite has made
(which has a symbol), or that the linker has made to reach further or to save r2 (which has none as
a rule).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from scpatch.elf.functions import Functions
from scpatch.elf.image import LinkedImage
from scpatch.errors import ScpatchError
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.branches import branches, branches_into
from scpatch.ppc64.variant import VARIANT, clobbers_r2
from scpatch.sites.choices import Choices
from scpatch.sites.linker_stubs import linker_stubs, may_be_stub
from scpatch.sites.model import Callee, Kind, Scan, Site, Stub, Traces, Trampoline
from scpatch.sites.symbols import find_trampolines


class _Way(NamedTuple):
    """Where a branch may lead on its way to a trampoline."""

    trampoline: str
    callee: Callee
    entry: bool
    """It is an entry point, and not the inside of a trampoline."""
    stub: str = ""
    """What lies between, for messages: empty where the branch goes to the trampoline itself."""
    ours: bool = False
    """A stub that a rewrite has made, and that saves r2."""
    lost: bool = False
    """A linker has dropped the stub's branch."""


def scan_image(image: LinkedImage, choices: Choices, traces: Traces) -> Scan:
    """The trampolines and call sites of a linked image, in section and offset order. `traces` are
    what earlier rewrites have left in it. Raises SCP222 where the image has no symbol table."""
    symbols = image.symbols
    if symbols is None:
        raise ScpatchError("SCP222", "no symbol table to find trampolines in", file=image.name)
    code = set(image.executable())
    trampolines = tuple(
        trampoline
        for trampoline in find_trampolines(symbols, choices.trampolines)
        if trampoline.section in code and trampoline.is_code
    )
    stubs = tuple(stub for stub in traces.stubs if stub.section in code)
    sites = _Finder(image, trampolines, stubs).sites() if trampolines else []
    return Scan(
        trampolines, stubs, tuple(sites), False, traces.strategies, image=True, choices=choices
    )


class _Finder:
    def __init__(
        self, image: LinkedImage, trampolines: Sequence[Trampoline], stubs: Sequence[Stub]
    ) -> None:
        self._image = image
        self._functions = Functions(image, image.executable())
        self._trampolines = trampolines
        extents = [(one.section, one.value, one.size) for one in trampolines]
        extents += [(one.section, one.value, one.size) for one in stubs]
        self._inside = {
            image.address(section, offset)
            for section, start, size in extents
            for offset in _words(image, section, start, size)
        }
        self._ways = {**_trampoline_ways(image, trampolines), **_stub_ways(image, stubs)}
        self._notoc = _notoc_calls(image)

    def sites(self) -> list[Site]:
        """All branches to trampolines but those inside trampolines and stubs."""
        code = {index: self._image.content(index) for index in self._image.executable()}
        found = {index: branches(content) for index, content in code.items()}
        ways = {**self._linker_ways(found), **self._ways}
        sites = []
        for index, content in code.items():
            base = self._image.address(index, 0)
            for target, offset in [*found[index], *self._conditional(index, content)]:
                way = ways.get(base + target)
                if way is not None and base + offset not in self._inside:
                    sites.append(self._site(index, content, offset, way))
        known = [site for site in sites if not self._is_linkers(site)]
        return sorted(known, key=lambda site: (site.section, site.offset))

    def _linker_ways(self, found: Mapping[int, Sequence[tuple[int, int]]]) -> dict[int, _Way]:
        """The linker's stubs that lead to a trampoline, by address."""
        # One for a stub of scpatch's there cannot be: that lies in the caller's section.
        wanted = {at for at, way in self._ways.items() if way.entry and not way.ours}
        stubs = linker_stubs(self._image, self._functions, found, wanted)
        return {
            address: self._ways[target]._replace(stub="a stub of the linker's")
            for address, target in stubs.items()
        }

    def _conditional(self, section: int, content: memoryview) -> Iterator[tuple[int, int]]:
        """Conditional branches, which reach 32 KiB, to trampolines in the same section."""
        ranges = [
            (one.value, one.value + max(one.size, 4))
            for one in self._trampolines
            if one.section == section
        ]
        for target, offset in branches_into(content, ranges):
            if not insn.is_branch(VARIANT.word(content, offset)):
                yield target, offset

    def _site(self, section: int, content: memoryview, offset: int, way: _Way) -> Site:
        function, function_offset = self._functions.name(section, offset)
        whole = offset + 8 <= len(content)
        site = Site(
            section=section,
            section_name=self._image.section_name(section),
            offset=offset,
            function=function,
            function_offset=function_offset,
            trampoline=way.trampoline,
            callee=way.callee,
            relocation=-1,
            symbol=way.callee.symbol,
            addend=0,
            word=VARIANT.word(content, offset),
            after=VARIANT.word(content, offset + 4) if whole else None,
        )
        if self._image.address(section, offset) in self._notoc:
            return site._replace(kind=Kind.NOTOC, detail="the caller does not use r2")
        judged = _judge(site, way)
        if way.entry and self._needs_no_toc(judged):
            return site._replace(kind=Kind.NOTOC, detail="the caller does not use r2")
        return judged

    def _needs_no_toc(self, site: Site) -> bool:
        """Whether r2 may be lost by a call that cannot be patched, since its caller's symbol says
        so: one without a nop, or a sibling call that stores no r2 in another's frame. A `bl` with a
        nop is taken as any: a load of r2 does no harm there."""
        symbols = self._image.symbols
        caller = self._functions.covering(site.section, site.offset)
        if symbols is None or caller is None or not clobbers_r2(symbols[caller].st_other):
            return False
        return site.kind is Kind.NO_NOP or (site.kind is Kind.SIBLING and not self._saves(site))

    def _saves(self, site: Site) -> bool:
        """Whether a branch leads to a store of r2, as stubs begin with."""
        target = insn.direct_target(site.word, site.offset)
        assert target is not None, "the branch is relative"
        address = self._image.address(site.section, target)
        for index in self._image.executable():
            offset = address - self._image.address(index, 0)
            content = self._image.content(index)
            if 0 <= offset < len(content):
                return VARIANT.word(content, offset) == VARIANT.save_r2
        return False

    def _is_linkers(self, site: Site) -> bool:
        """A `b` that no function covers is the end of a stub of the linker's."""
        if not insn.is_branch(site.word) or insn.links(site.word):
            return False
        return may_be_stub(self._image, self._functions, site.section, site.offset)


def _judge(site: Site, way: _Way) -> Site:
    """The site with its state."""
    by = f", through {way.stub}" if way.stub else ""
    if not insn.is_branch(site.word):
        return site.fault("SCP209", "the branch is conditional or absolute")
    if not insn.links(site.word):
        if way.ours and not way.entry:
            return site._replace(kind=Kind.RESTORED, detail=f"goes through {way.stub}")
        return site.fault("SCP203", f"sibling call (b) to {site.trampoline}", Kind.SIBLING)
    if way.lost:
        return site.fault("SCP248", f"no linker keeps the branch of {way.stub}")
    if not way.entry and not way.ours:
        return site.fault("SCP205", "the call does not go to the trampoline's entry")
    if site.after is None:
        return site.fault("SCP207", "the section ends behind the call")
    if site.after == VARIANT.restore_r2:
        return site._replace(kind=Kind.RESTORED, detail=f"restored by ld r2,24(r1){by}")
    if (offset := insn.r13_offset(site.after)) is not None:
        return site._replace(kind=Kind.RESTORED, detail=f"restored by ld r2,{offset}(r13){by}")
    if way.ours:
        return site.fault("SCP210", f"calls {way.stub} without a restore behind it")
    if site.after not in insn.NOPS:
        return site.fault("SCP201", "no nop behind the call", Kind.NO_NOP)
    return site._replace(detail=by.removeprefix(", "))


def _words(image: LinkedImage, section: int, start: int, size: int) -> range:
    """The section offsets of a symbol's words, whatever it says of its size."""
    return range(start, min(start + size, image.sections[section].sh_size), 4)


def _trampoline_ways(image: LinkedImage, trampolines: Sequence[Trampoline]) -> dict[int, _Way]:
    ways: dict[int, _Way] = {}
    for one in trampolines:
        for offset in _words(image, one.section, one.value, one.size):
            address = image.address(one.section, offset)
            ways.setdefault(address, _Way(one.name, one, entry=False))
    for one in trampolines:
        for offset in (one.value, one.local_entry):
            ways[image.address(one.section, offset)] = _Way(one.name, one, entry=True)
    return ways


def _stub_ways(image: LinkedImage, stubs: Sequence[Stub]) -> dict[int, _Way]:
    """By address. The `entry` of a thunk is reached by `b`, and so is none."""
    return {
        image.address(one.section, one.value): _Way(
            one.trampoline,
            one,
            entry=not one.is_thunk,
            stub=one.name,
            ours=True,
            lost=not one.is_thunk and _is_lost(image, one),
        )
        for one in stubs
    }


def _is_lost(image: LinkedImage, stub: Stub) -> bool:
    """Whether a stub ends in no branch, or in one to itself: what GNU ld and lld make of a branch
    to a weak undefined symbol."""
    word = VARIANT.word(image.content(stub.section), stub.value + 4)
    return not insn.is_branch(word) or insn.direct_target(word, 0) == 0


def _notoc_calls(image: LinkedImage) -> frozenset[int]:
    """The addresses of calls that need no r2, where the linker has kept their relocations."""
    return frozenset(
        table.r_offset[index]
        for table in image.emitted_relocations()
        for index, info in enumerate(table.r_info)
        if info & 0xFFFFFFFF in relocs.NOTOC
    )
