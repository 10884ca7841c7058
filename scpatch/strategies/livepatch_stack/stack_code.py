"""Trampolines that save LR and r2 on the livepatch stack: the code for it, and how it is found.

A trampoline that cannot branch straight to its target ends in `mtctr r12; bctr`: r12 and CTR hold
the target's global entry. In place of that `bctr` it branches to the code below, which calls the
target instead and comes back with what it has saved. One copy serves all trampolines of a section.

The stack is at the other end of the kernel stack: thread_info->livepatch_sp starts after the
end of stack marker and grows up, an entry of three doublewords at a time: r2, LR, and the marker
again. r1 stays where it is, so that arguments on the stack do. Source: Linux 6.1,
arch/powerpc/include/asm/livepatch.h and the livepatch handler of
arch/powerpc/kernel/trace/ftrace_mprofile.S, which share that stack with this code.

Interrupts may come in anywhere, and push and pop entries themselves; an interrupt on a stack of
its own has the same thread_info, that of the interrupted thread. So nothing may be above
livepatch_sp: it is moved up before the first doublewords are stored, and down after the last one
has been read. An interrupt between the load and the store of livepatch_sp leaves it as it was, and
r13 is used once each time, since a preempted thread may go on on another CPU.

Registers: at the `bctr` r0, r11 and r12 are free but for the target's address, which is in CTR as
well; on return r0, r11 and r12 are, and r2 until it is restored. No CR field is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from scpatch.elf.encoding import Encoding
from scpatch.elf.reader import ElfFile
from scpatch.linux.offsets import Offsets
from scpatch.ppc64 import insn
from scpatch.ppc64.asm import assemble
from scpatch.ppc64.effects import effects
from scpatch.ppc64.variant import local_entry_offset
from scpatch.sites.model import Trampoline

NAME: Final = "livepatch-stack"
PREFIX: Final = "r2lps."

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


def code(offsets: Offsets) -> list[int]:
    """The instructions of the code for a kernel's offsets, which must be known."""
    return assemble(
        _TEXT.format(thread_info=offsets.paca_thread_info, livepatch_sp=offsets.livepatch_sp)
    )


def read_code(encoding: Encoding, content: memoryview, at: int) -> Offsets | None:
    """The offsets of the code at a section offset; None if it is other code."""
    if at < 0 or at + SIZE > len(content):
        return None
    present = encoding.words(content[at : at + SIZE]).tolist()
    thread_info, livepatch_sp = (word & 0xFFFF for word in present[:2])
    if max(thread_info, livepatch_sp) >= 0x8000 or (thread_info | livepatch_sp) % 8:
        return None
    offsets = Offsets(paca_thread_info=thread_info, livepatch_sp=livepatch_sp)
    return offsets if present == code(offsets) else None


class Saving(NamedTuple):
    """A branch of a trampoline to the code."""

    offset: int
    code: int
    offsets: Offsets


class SlowPath(NamedTuple):
    """How a trampoline comes to a target with another TOC. Numbers are section offsets."""

    exits: tuple[int, ...] = ()
    """Its `bctr`, which leave for good."""
    saving: tuple[Saving, ...] = ()
    """Its branches to the code, instead of a `bctr`."""
    code: str = ""
    """The diagnostic, if it is not understood."""
    fault: str = ""
    """What was looked for, and what is there."""

    @property
    def keeps_r2(self) -> bool:
        return bool(self.saving) and not self.exits and not self.code


def read_slow_path(elf: ElfFile, trampoline: Trampoline, places: frozenset[int]) -> SlowPath:
    """How a trampoline leaves for its target. `places` are the section offsets of the words that
    relocations apply to."""
    content, encoding = elf.content(trampoline.section), elf.encoding
    start, end = trampoline.value, trampoline.value + trampoline.size
    if not trampoline.size or start % 4 or end > len(content):
        fault = f"{trampoline.name} has no size, so that its end is not known"
        return SlowPath(code="SCP230", fault=fault)
    words = {at: encoding.word(content, at) for at in range(start, end - 3, 4)}
    relocated = places.intersection(words)
    exits: list[int] = []
    saving: list[Saving] = []
    for at, word in words.items():
        if at in relocated:
            continue
        to = insn.direct_target(word, at) if insn.is_branch(word) else None
        if to is not None and not start <= to < end:
            offsets = read_code(encoding, content, to)
            saving += [Saving(at, to, offsets)] if offsets is not None else []
        elif insn.is_indirect(word) and not insn.is_through_lr(word):
            exits.append(at)
    ends = sorted([*exits, *(branch.offset for branch in saving)])
    return SlowPath(tuple(exits), tuple(saving), *_fault(trampoline, words, relocated, ends))


def _fault(
    trampoline: Trampoline,
    words: Mapping[int, int],
    relocated: Collection[int],
    exits: Sequence[int],
) -> tuple[str, str]:
    """(code, what is wrong) with a trampoline that leaves through CTR at `exits`."""
    name, start = trampoline.name, trampoline.value
    if not exits:
        return "SCP230", f"{name} has no `mtctr r12; bctr`, the path to a target with another TOC"
    for at in exits:
        if words.get(at - 4) != _MTCTR_R12 or at - 4 in relocated:
            return "SCP231", f"no `mtctr r12` before {name}+{at - start:#x}"
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
