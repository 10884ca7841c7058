"""Finds the call sites of a linked image by decoding its branches.

The linker has resolved the calls, so there are only the instruction words and the symbol table. A
call site is a `bl` to an entry point of a trampoline, or to a stub for one. A stub of a rewrite has
a symbol. One that the linker has made, to reach further or to save r2, has none as a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from scpatch.elf.functions import Functions
from scpatch.elf.image import LinkedImage
from scpatch.errors import ScpatchError
from scpatch.ppc64 import insn, relocs
from scpatch.ppc64.branches import Branches, branches
from scpatch.ppc64.variant import RESTORE_R2, SAVE_R2, clobbers_r2
from scpatch.sites.choices import Choices
from scpatch.sites.judge import site_at
from scpatch.sites.linker_stubs import linker_stubs, may_be_stub
from scpatch.sites.model import Callee, Kind, Scan, Site, Stub, Traces, Trampoline
from scpatch.sites.symbols import find_in, is_added


class _Target(NamedTuple):
    """What a branch leads to."""

    callee: Callee
    entry: bool
    """It is an entry point, and not the inside of a trampoline."""
    through: str = ""
    """The stub that it leads through, for messages; empty for none."""


def scan_image(image: LinkedImage, choices: Choices, traces: Traces) -> Scan:
    """The trampolines and call sites of a linked image, in section and offset order. `traces` are
    what earlier rewrites have left in it. Raises SCP222 if the image has no symbol table."""
    symbols = image.symbols
    if symbols is None:
        raise ScpatchError("SCP222", "no symbol table to find trampolines in", file=image.name)
    code = set(image.executable())
    trampolines = tuple(
        trampoline
        for trampoline in find_in(image, symbols, choices.trampolines)
        if trampoline.section in code and trampoline.is_code
    )
    stubs = tuple(stub for stub in traces.stubs if stub.section in code)
    sites = tuple(_Finder(image, trampolines, stubs).sites()) if trampolines else ()
    return Scan(trampolines, stubs, sites, False, traces.strategies, image=True, choices=choices)


class _Finder:
    def __init__(
        self, image: LinkedImage, trampolines: Sequence[Trampoline], stubs: Sequence[Stub]
    ) -> None:
        self._image = image
        self._functions = Functions(image, image.executable())
        self._trampolines = trampolines
        self._code = {index: image.content(index) for index in image.executable()}
        self._inside: set[int] = set()
        """The addresses of the words of trampolines and stubs."""
        self._targets: dict[int, _Target] = {}
        entries: dict[int, _Target] = {}
        for trampoline in trampolines:
            words = self._addresses(trampoline)
            self._inside.update(words)
            for address in words:
                self._targets.setdefault(address, _Target(trampoline, entry=False))
            for offset in (trampoline.value, trampoline.local_entry):
                address = image.address(trampoline.section, offset)
                entries[address] = _Target(trampoline, entry=True)
        for stub in stubs:
            self._inside.update(self._addresses(stub))
            # A `b` reaches the entry point of a thunk, so it is none of a call.
            target = _Target(stub, entry=not stub.is_thunk, through=stub.name)
            entries[image.address(stub.section, stub.value)] = target
        self._targets |= entries
        self._notoc = _notoc_calls(image)

    def _addresses(self, callee: Callee) -> range:
        """Of a symbol's words, whatever it says of its size."""
        end = min(callee.value + callee.size, self._image.sections[callee.section].sh_size)
        start = self._image.address(callee.section, 0)
        return range(start + callee.value, start + end, 4)

    def sites(self) -> list[Site]:
        """All branches to trampolines but those inside trampolines and stubs."""
        encoding = self._image.encoding
        by_section = {index: branches(code, encoding) for index, code in self._code.items()}
        targets = self._through_linker_stubs(by_section) | self._targets
        sites = []
        for index, code in self._code.items():
            start = self._image.address(index, 0)
            for to, offset in [*by_section[index], *self._conditional(index, code)]:
                target = targets.get(start + to)
                if target is None or start + offset in self._inside:
                    continue
                site = self._site(index, offset, target)
                # Added code may go back to after the prologue of a trampoline.
                if target.entry or not is_added(site.function):
                    sites.append(site)
        sites = [site for site in sites if not self._ends_linker_stub(site)]
        return sorted(sites, key=lambda site: (site.section, site.offset))

    def _through_linker_stubs(
        self, by_section: Mapping[int, Sequence[tuple[int, int]]]
    ) -> dict[int, _Target]:
        """The linker's stubs that lead to a trampoline, by address. None leads to the stub of a
        rewrite, which is in the caller's section."""
        wanted = {
            address
            for address, target in self._targets.items()
            if target.entry and not target.through
        }
        stubs = linker_stubs(self._image, self._functions, by_section, wanted)
        return {
            address: self._targets[to]._replace(through="a stub of the linker's")
            for address, to in stubs.items()
        }

    def _conditional(self, section: int, code: memoryview) -> Iterator[tuple[int, int]]:
        """Conditional branches, which reach 32 KiB, to trampolines in the same section."""
        ranges = [
            (trampoline.value, trampoline.value + max(trampoline.size, 4))
            for trampoline in self._trampolines
            if trampoline.section == section
        ]
        for to, offset in Branches(code, self._image.encoding).into(ranges):
            if not insn.is_branch(self._image.encoding.word(code, offset)):
                yield to, offset

    def _site(self, section: int, offset: int, target: _Target) -> Site:
        site = site_at(self._image, self._functions, section, offset, target.callee)
        judged = self._judge(site, target)
        address = self._image.address(section, offset)
        if address in self._notoc or (target.entry and self._needs_no_toc(judged)):
            return site._replace(kind=Kind.NOTOC, detail="the caller does not use r2")
        return judged

    def _judge(self, site: Site, target: _Target) -> Site:
        """The site with its kind."""
        stub = target.callee if isinstance(target.callee, Stub) else None
        through = f", through {target.through}" if target.through else ""
        if not insn.is_branch(site.word):
            return site.fault("SCP209", "the branch is conditional or absolute")
        if not insn.links(site.word):
            if stub is not None and stub.is_thunk:
                return site._replace(kind=Kind.RESTORED, detail=f"goes through {stub.name}")
            return site.fault("SCP203", f"sibling call (b) to {site.trampoline}", Kind.SIBLING)
        if stub is not None and not stub.is_thunk and self._is_lost(stub):
            return site.fault("SCP248", f"no linker keeps the branch of {stub.name}")
        if not target.entry and stub is None:
            return site.fault("SCP205", "the call does not go to the trampoline's entry")
        if site.after is None:
            return site.fault("SCP207", "the section ends after the call")
        if site.after == RESTORE_R2:
            return site._replace(kind=Kind.RESTORED, detail=f"restored by ld r2,24(r1){through}")
        if (offset := insn.r13_offset(site.after)) is not None:
            detail = f"restored by ld r2,{offset}(r13){through}"
            return site._replace(kind=Kind.RESTORED, detail=detail)
        if stub is not None:
            return site.fault("SCP210", f"calls {stub.name} without a restore after it")
        if site.after not in insn.NOPS:
            return site.fault("SCP201", "no nop after the call", Kind.NO_NOP)
        return site._replace(detail=through.removeprefix(", "))

    def _is_lost(self, stub: Stub) -> bool:
        """Whether a stub ends in no branch, or in one to itself: what GNU ld and lld make of a
        branch to a weak undefined symbol."""
        word = self._image.encoding.word(self._code[stub.section], stub.value + 4)
        return not insn.is_branch(word) or insn.direct_target(word, 0) == 0

    def _needs_no_toc(self, site: Site) -> bool:
        """Whether the caller's symbol says that a call which cannot be patched may lose r2.

        That is a call without a nop, or a sibling call that stores no r2 in another frame. A `bl`
        with a nop is judged as any other: a load of r2 does no harm there.
        """
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
        for index, code in self._code.items():
            offset = address - self._image.address(index, 0)
            if 0 <= offset < len(code):
                return self._image.encoding.word(code, offset) == SAVE_R2
        return False

    def _ends_linker_stub(self, site: Site) -> bool:
        """Whether a site is a `b` that no function covers: the end of a stub of the linker's."""
        if not insn.is_branch(site.word) or insn.links(site.word):
            return False
        return may_be_stub(self._image, self._functions, site.section, site.offset)


def _notoc_calls(image: LinkedImage) -> frozenset[int]:
    """The addresses of calls that need no r2, if the linker has kept their relocations."""
    return frozenset(
        table.r_offset[index]
        for table in image.emitted_relocations()
        for index, info in enumerate(table.r_info)
        if info & 0xFFFFFFFF in relocs.NOTOC
    )
