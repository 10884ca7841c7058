"""Option 4 of the thread: the nop behind the call loads r2 from the PACA, nothing is saved.

In the kernel image r2 is the same everywhere, and each processor's PACA holds it, for the entries
from user space and firmware. So whatever r2 the target returns with, one load puts it right, at
call sites of any kind: no stub, no relocation, no frame. In a module that load gives the
kernel's TOC pointer, which is not the module's.
"""

from __future__ import annotations

from collections.abc import Mapping

from scpatch.elf.additions import Additions
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.ppc64 import insn
from scpatch.ppc64.variant import VARIANT
from scpatch.sites.model import Plan, Scan, Site, State
from scpatch.strategies import Cost, StrategyOptions

SUMMARY = "load r2 from the PACA in the nop behind each call (kernel image only)"

IMAGES = True
FOR_MODULES = "callsite"

TEXT = """\
Each `bl __SCT__x; nop` becomes

            bl      __SCT__x
            ld      r2,PACATOC(r13)

and nothing else changes: the kernel keeps its TOC pointer in each processor's PACA, to which r13
points. No code is added, so that it can also be done in place to a linked vmlinux, whose call sites
are found by decoding its branches.

PACATOC depends on the kernel's configuration. It is read from include/generated/asm-offsets.h of
the same build (--asm-offsets FILE), or given as a number (--paca-toc-offset N).

It is right in the kernel image only. In a module it would load the kernel's TOC pointer instead of
the module's, so that a .ko is refused; modules take the strategy callsite. Of an object that is not
linked yet nobody can say where it will end up: that it goes into the image is for the user to know.
It is option 4 of the thread "Out-of-line static calls for powerpc64 ELF V2" (linuxppc-dev,
September 2022), where Christophe Leroy named it."""

_LARGEST = 0x7FFC

_MODULE_ENTRIES = ("init_module", "cleanup_module")


def cost(options: StrategyOptions) -> Mapping[State, Cost]:
    return {State.PACA: Cost(0, 0)}


def plan(elf: ElfFile, scan: Scan, additions: Additions, options: StrategyOptions) -> Plan:
    """Patches the nop of every site that has one.

    Raises ScpatchError: SCP115 where PACATOC is not known, SCP220 for a module, SCP221 for an
    offset that no `ld` can have, SCP223 where the file was patched with another offset.
    """
    offset = _offset(elf, options)
    _refuse_modules(elf, scan)
    sites = tuple(_settled(site, offset) for site in scan.sites)
    for site in sites:
        if site.state is State.DONE:
            _check_offset(elf, site, offset)
        elif site.state is State.PACA:
            word = insn.ld_r2_from_r13(offset)
            additions.patch(site.section, site.offset + 4, VARIANT.encode(word))
    return Plan("paca", sites)


def _offset(elf: ElfFile, options: StrategyOptions) -> int:
    """PACATOC in bytes."""
    offset = options.offsets.paca_toc
    if offset is None:
        raise ScpatchError(
            "SCP115", "PACATOC is not known, which strategy paca needs", file=elf.name
        )
    if not 0 <= offset <= _LARGEST or offset % 4:
        raise ScpatchError("SCP221", f"`ld` cannot have PACATOC {offset} as offset", file=elf.name)
    return offset


def _refuse_modules(elf: ElfFile, scan: Scan) -> None:
    if scan.module:
        raise ScpatchError(
            "SCP220", "a kernel module, in which the PACA's TOC is not r2", file=elf.name
        )
    symbols = elf.symbols
    if symbols is None or not scan.sites:
        return
    for name in _MODULE_ENTRIES:
        # <linux/module.h> defines these two in what is compiled as a module, and only there.
        for index in symbols.with_prefix(name.encode()):
            if symbols.name(index) == name and symbols.section_index(index):
                raise ScpatchError(
                    "SCP220", f"a kernel module's object: it defines {name}", file=elf.name
                )


def _settled(site: Site, offset: int) -> Site:
    """The site with what this strategy does with it.

    A nop that is a branch target (SCP202) is taken: who comes there by another way is in the kernel
    image as well, and loads the r2 that he has. Of calls without a nop, a thunk is no way out.
    """
    right = site.state in (State.REWRITE, State.SAVED, State.PACA)
    if right or site.code in ("SCP202", "SCP245"):
        detail = f"r2 is to be restored by ld r2,{offset}(r13)"
        return site._replace(state=State.PACA, code="", detail=detail)
    return site._replace(state=State.REFUSED) if site.state is State.THUNK else site


def _check_offset(elf: ElfFile, site: Site, offset: int) -> None:
    """Whether a site that is done was done with the same offset, if by this strategy."""
    found = insn.r13_offset(site.after or 0)
    if found is not None and found != offset:
        raise ScpatchError(
            "SCP223",
            f"r2 is restored from {found}(r13), not from {offset}(r13)",
            file=elf.name,
            where=site.place,
        )
