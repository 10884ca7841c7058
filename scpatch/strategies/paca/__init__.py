"""Option 4 of the thread: the nop after the call loads r2 from the PACA, nothing is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scpatch.elf.additions import Additions
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.ppc64 import insn
from scpatch.sites.actions import Action, Common
from scpatch.sites.choices import Choices, NoNop
from scpatch.sites.model import Kind, Scan, Site
from scpatch.strategies.base import Cost, Strategy
from scpatch.strategies.plans import Plan

NAME = "paca"
TEXT = """\
Each `bl __SCT__x; nop` becomes

            bl      __SCT__x
            ld      r2,PACATOC(r13)

and nothing else changes. r13 points to the processor's PACA, and the kernel keeps its TOC pointer
there. scpatch adds no code, so it can also patch a linked vmlinux in place. It finds the call sites
of an image by decoding its branches.

PACATOC depends on the kernel's configuration. Give the include/generated/asm-offsets.h of the same
build (--asm-offsets FILE), or the number (--paca-toc-offset N).

It is right in the kernel image only. In a module it would load the kernel's TOC pointer instead of
the module's, so a .ko is refused; rewrite modules with the default strategy. An object that is not
linked yet does not say where it will end up: you must know that it goes into the image. It is
option 4 of the thread "Out-of-line static calls for powerpc64 ELF V2" (linuxppc-dev, September
2022), where Christophe Leroy named it."""

_LARGEST = 0x7FFC
"""The largest displacement of an `ld`."""
_MODULE_ENTRIES = ("init_module", "cleanup_module")


class Paca(Action):
    PACA = (
        *("paca", "to reload r2 from the PACA"),
        "the nop after it becomes a load of r2 from the PACA; nothing is saved",
    )


class LoadFromPaca(Strategy):
    name = NAME
    summary = "load r2 from the PACA in the nop after each call (kernel image only)"
    text = TEXT
    actions = Paca
    takes = frozenset({"offsets"})
    modules = False
    images = True

    def decide(self, elf: ElfFile, scan: Scan) -> tuple[Site, ...]:
        """A nop that is a branch target is patched as any other. Code that branches there is in the
        kernel image as well, and loads the r2 that it has."""
        return tuple(
            site._replace(state=Paca.PACA, code="")
            if site.kind in (Kind.OPEN, Kind.ENTERED)
            else site.settled
            for site in scan.sites
        )

    def plan(self, elf: ElfFile, scan: Scan, additions: Additions, offsets: Offsets) -> Plan:
        """Patches the nop of every site that has one. Without such a site it needs no offset.

        Raises ScpatchError: SCP115 if PACATOC is not known, SCP220 for a module, SCP221 for an
        offset that does not fit an `ld`, SCP223 if the file was patched with another offset.
        """
        if all(site.kind is Kind.NOTOC for site in scan.sites):
            return Plan(NAME, self.decide(elf, scan))
        offset = _offset(elf, offsets)
        _refuse_modules(elf, scan)
        load = insn.ld_r2_from_r13(offset)
        detail = f"r2 is to be restored by ld r2,{offset}(r13)"
        sites = [
            site._replace(detail=detail) if site.state is Paca.PACA else site
            for site in self.decide(elf, scan)
        ]
        for site in sites:
            if site.state is Common.DONE:
                _check_offset(elf, site, offset)
            elif site.state is Paca.PACA:
                additions.patch_words(site.section, site.offset + 4, load)
        return Plan(NAME, tuple(sites))

    def suits_images(self, choices: Choices, offsets: Offsets) -> bool:
        """Wherever a static call can be made in the image, r13 points to a PACA with the kernel's
        TOC pointer (docs/explanation/paca.md). But a thunk saves r2 on the stack, and marks are
        undone by the strategy that needs none."""
        fits = offsets.paca_toc is not None and _fits(offsets.paca_toc)
        return fits and choices.no_nop is NoNop.REFUSE and not choices.unmark

    def cost(self, offsets: Offsets) -> Mapping[Action, Cost]:
        return {Paca.PACA: Cost(0, 0)}

    def means(self, plans: Sequence[Plan]) -> Mapping[str, int]:
        changed = sum(site.state is Paca.PACA for plan in plans for site in plan.sites)
        return {"from the PACA": changed} if changed else {}


STRATEGY = LoadFromPaca()


def _offset(elf: ElfFile, offsets: Offsets) -> int:
    """PACATOC in bytes."""
    offset = offsets.paca_toc
    if offset is None:
        what = "PACATOC is not known, and strategy paca needs it"
        raise ScpatchError("SCP115", what, file=elf.name)
    if not _fits(offset):
        raise ScpatchError(
            "SCP221", f"PACATOC {offset} does not fit an `ld` instruction", file=elf.name
        )
    return offset


def _fits(offset: int) -> bool:
    """Whether an `ld` can have the offset."""
    return 0 <= offset <= _LARGEST and offset % 4 == 0


def _refuse_modules(elf: ElfFile, scan: Scan) -> None:
    if scan.module and (scan.trampolines or scan.sites or scan.stubs):
        what = "a kernel module, in which the PACA's TOC is not r2"
        raise ScpatchError("SCP220", what, file=elf.name)
    symbols = elf.symbols
    if symbols is None or not scan.sites:
        return
    for name in _MODULE_ENTRIES:
        # <linux/module.h> defines these two in what is compiled as a module, and only there.
        for index in symbols.with_prefix(name.encode()):
            if symbols.name(index) == name and symbols.section_index(index):
                what = f"a kernel module's object: it defines {name}"
                raise ScpatchError("SCP220", what, file=elf.name)


def _check_offset(elf: ElfFile, site: Site, offset: int) -> None:
    """Whether a site that is done was done with the same offset, if by this strategy."""
    present = insn.r13_offset(site.after or 0)
    if present is not None and present != offset:
        what = f"r2 is restored from {present}(r13), not from {offset}(r13)"
        raise ScpatchError("SCP223", what, file=elf.name, where=site.place)
