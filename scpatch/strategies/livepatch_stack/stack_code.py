"""Trampolines that save LR and r2 on the livepatch stack: the code for it, and how it is found.

A trampoline that cannot branch straight to its target ends in `mtctr r12; bctr`: r12 and CTR hold
the target's global entry. In place of that `bctr` it branches to the code below, which calls the
target instead and comes back with what it has saved. One copy serves all trampolines of a section.

The stack lies at the other end of the kernel stack: thread_info->livepatch_sp starts behind the
end of stack marker and grows up, an entry of three doublewords at a time: r2, LR, and the marker
again. r1 stays where it is, so that arguments on the stack do. Source: Linux 6.1,
arch/powerpc/include/asm/livepatch.h and the livepatch handler of
arch/powerpc/kernel/trace/ftrace_mprofile.S, which share that stack with this code.

Interrupts may come in anywhere, and push and pop entries themselves; an interrupt on a stack of
its own has the same thread_info, that of the interrupted thread. So nothing may lie above
livepatch_sp: it is moved up before the first doublewords are stored, and down after the last one
has been read. An interrupt between the load and the store of livepatch_sp leaves it as it was, and
r13 is used once each time, since a preempted thread may go on on another CPU.

Registers: at the `bctr` r0, r11 and r12 are free but for the target's address, which is in CTR as
well; on return r0, r11 and r12 are, and r2 until it is restored. No CR field is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from scpatch.elf.functions import section_of
from scpatch.elf.reader import ElfFile
from scpatch.linux.offsets import Offsets
from scpatch.ppc64 import insn
from scpatch.ppc64.asm import assemble
from scpatch.ppc64.effects import effects
from scpatch.ppc64.variant import VARIANT, local_entry_offset
from scpatch.sites.model import Site, State, Trampoline

NAME: Final = "livepatch-stack"

_TEXT: Final = """
ld 12,{thread_info}(13)
ld 11,{livepatch_sp}(12)
addi 11,11,24
std 11,{livepatch_sp}(12)
std 2,-24(11)
mflr 0
std 0,-16(11)
lis 0,0x57ac
ori 0,0,0x6e9d
std 0,-8(11)
mfctr 12
bctrl
ld 12,{thread_info}(13)
ld 11,{livepatch_sp}(12)
lis 2,0x57ac
ori 2,2,0x6e9d
ld 0,-8(11)
tdne 0,2
ld 0,-16(11)
mtlr 0
ld 2,-24(11)
addi 11,11,-24
std 11,{livepatch_sp}(12)
blr
"""

SIZE: Final = 4 * _TEXT.strip().count("\n") + 4
"""Bytes of the code."""

_MTCTR_R12, _BCTR = 0x7D8903A6, 0x4E800420
_MTLR = 0x7C0803A6
_SPR_FIELDS = 0xFC1FFFFF
"""All of `mtspr` but the register that is moved."""


def code(offsets: Offsets) -> bytes:
    """The code for a kernel's offsets, which must be known."""
    return assemble(
        _TEXT.format(thread_info=offsets.paca_thread_info, livepatch_sp=offsets.livepatch_sp)
    )


def read_code(content: memoryview, at: int) -> Offsets | None:
    """The offsets of the code that stands at a section offset; None where it is none."""
    found = bytes(content[at : at + SIZE])
    if at < 0 or len(found) < SIZE:
        return None
    displacements = (VARIANT.word(found, start) & 0xFFFF for start in (0, 4))
    thread_info, livepatch_sp = displacements
    if max(thread_info, livepatch_sp) >= 0x8000 or (thread_info | livepatch_sp) % 8:
        return None
    offsets = Offsets(paca_thread_info=thread_info, livepatch_sp=livepatch_sp)
    return offsets if found == code(offsets) else None


class Saving(NamedTuple):
    """A branch of a trampoline to the code."""

    branch: int
    code: int
    offsets: Offsets


class Slow(NamedTuple):
    """How a trampoline comes to a target with another TOC. Numbers are section offsets."""

    exits: tuple[int, ...] = ()
    """Its `bctr`, which leave for good."""
    saving: tuple[Saving, ...] = ()
    """Its branches to the code, instead of a `bctr`."""
    code: str = ""
    """The diagnostic where it is not understood."""
    fault: str = ""
    """What was looked for, and what is there."""

    @property
    def keeps_r2(self) -> bool:
        return bool(self.saving) and not self.exits and not self.code


class Reader:
    """Reads the trampolines of an object."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._relocated: dict[int, frozenset[int]] = {}

    def __call__(self, trampoline: Trampoline) -> Slow:
        """How a trampoline that the object defines leaves for its target."""
        name, content = trampoline.name, self._elf.content(trampoline.section)
        start, end = trampoline.value, trampoline.value + trampoline.size
        if not trampoline.size or start % 4 or end > len(content):
            return Slow(code="SCP230", fault=f"{name} has no size, so that its end is not known")
        words = {at: VARIANT.word(content, at) for at in range(start, end - 3, 4)}
        relocated = self._places(trampoline.section).intersection(words)
        exits: list[int] = []
        saving: list[Saving] = []
        for at, word in words.items():
            if at in relocated:
                continue
            to = insn.direct_target(word, at) if insn.is_branch(word) else None
            if to is not None and not start <= to < end:
                offsets = read_code(content, to)
                saving += [Saving(at, to, offsets)] if offsets is not None else []
            elif insn.is_indirect(word) and not insn.is_through_lr(word):
                exits.append(at)
        ends = sorted([*exits, *(one.branch for one in saving)])
        code, fault = _fault(trampoline, words, relocated, ends)
        return Slow(tuple(exits), tuple(saving), code, fault)

    def _places(self, section: int) -> frozenset[int]:
        """The section offsets that relocations apply to."""
        if section not in self._relocated:
            table = self._elf.relocations(section)
            self._relocated[section] = frozenset(table.r_offset if table is not None else ())
        return self._relocated[section]


def _fault(
    trampoline: Trampoline,
    words: Mapping[int, int],
    relocated: Collection[int],
    exits: Sequence[int],
) -> tuple[str, str]:
    """(code, what is wrong) with a trampoline that leaves by way of CTR at `exits`."""
    name, start = trampoline.name, trampoline.value
    if not exits:
        return "SCP230", f"{name} has no `mtctr r12; bctr`, the way to a target with another TOC"
    for at in exits:
        if words.get(at - 4) != _MTCTR_R12 or at - 4 in relocated:
            return "SCP231", f"no `mtctr r12` in front of {name}+{at - start:#x}"
        if words[at] != _BCTR and (not insn.is_branch(words[at]) or insn.links(words[at])):
            return "SCP231", f"{name}+{at - start:#x} is a call or a branch on a condition"
    local = start + local_entry_offset(trampoline.st_other)
    for at in range(local, exits[-1], 4):
        if _touches(words[at]):
            return "SCP231", f"{name}+{at - start:#x} may write r1, r2 or LR before its `bctr`"
    return "", ""


def _touches(word: int) -> bool:
    """Whether an instruction may write r1, r2 or LR."""
    if insn.transfers(word):
        return insn.links(word)
    changed = effects(word)
    return changed.r1 or changed.r2 or word & _SPR_FIELDS == _MTLR


def kept(
    elf: ElfFile, trampolines: Sequence[Trampoline], sites: Iterable[Site], *, module: bool
) -> list[Site]:
    """The sites of an object that was rewritten this way, with those that its trampolines keep
    right, or another object's are to."""
    read, find = Reader(elf), Finder(elf, trampolines)
    slow = {one: read(one) for one in trampolines if is_ours(one)}
    found = []
    for site in sites:
        one = find(site)
        if one is None or not is_settled(one, site):
            found.append(site)
        elif not one.defined:
            found.append(left_to_another(one, site, module=module))
        elif one in slow and slow[one].keeps_r2:
            found.append(site._replace(state=State.TRAMPOLINE, code="", detail=KEEPS))
        else:
            found.append(site)
    return found


KEEPS: Final = "the trampoline keeps r2 on the livepatch stack"

_SETTLED: Final = frozenset({"SCP201", "SCP202", "SCP203", "SCP206", "SCP212", "SCP240", "SCP245"})
"""Refusals of what the call itself would have to do, which it has not: it needs no nop, and it need
not come back."""


def is_ours(trampoline: Trampoline) -> bool:
    """Whether a trampoline is defined, and promises to keep r2: with st_other bits 5-7 = 1 it does
    not, and the linker sees to its callers."""
    return trampoline.defined and not trampoline.clobbers_r2 and not trampoline.indirect


def is_settled(trampoline: Trampoline, site: Site) -> bool:
    """Whether a call is right once its trampoline keeps r2."""
    if site.state is State.REFUSED:
        # A call that the assembler has resolved itself may lead to either entry point.
        one_entry = trampoline.value == trampoline.local_entry
        plain = one_entry and insn.is_branch(site.word)
        return site.code in _SETTLED and (site.code != "SCP212" or plain)
    return site.state in (State.REWRITE, State.SAVED, State.THUNK)


def left_to_another(trampoline: Trampoline, site: Site, *, module: bool) -> Site:
    """A call of a trampoline that the object does not define."""
    if trampoline.reserved and not (module and trampoline.loaded):
        detail = f"{trampoline.name} lies in no section (st_shndx {trampoline.reserved:#x})"
        return site._replace(state=State.REFUSED, code="SCP249", detail=detail)
    if not module:
        detail = "right once the object that defines the trampoline is rewritten as well"
        return site._replace(state=State.TRAMPOLINE, code="", detail=detail)
    if site.state in (State.REFUSED, State.THUNK):
        return site._replace(state=State.REFUSED)
    return site._replace(state=State.LOADER, detail="the trampoline is undefined here")


class Finder:
    """Finds a site's trampoline by what its relocation names. Names need not be unique."""

    def __init__(self, elf: ElfFile, trampolines: Sequence[Trampoline]) -> None:
        self._symbols = elf.symbols
        self._by_symbol = {one.symbol: one for one in trampolines}
        self._by_place = {
            (one.section, entry): one
            for one in trampolines
            if one.defined
            for entry in (one.value, one.local_entry)
        }

    def __call__(self, site: Site) -> Trampoline | None:
        """None for a site that goes through a stub, or to no entry point."""
        symbols = self._symbols
        if symbols is None or site.symbol in self._by_symbol:
            return self._by_symbol.get(site.symbol)
        place = section_of(symbols, site.symbol), symbols.st_value[site.symbol] + site.addend
        return self._by_place.get(place)
