"""Trampolines that can reach another TOC, and `--strategy livepatch-stack` applied to them."""

from __future__ import annotations

from pathlib import Path

from scpatch.linux.offsets import Offsets
from scpatch.rewriter import FilePlan, Options, plan_file, write

OFFSETS = Offsets(paca_thread_info=2312, livepatch_sp=16)
BCTR = 0x4E800420

CODE = """
        ld      12, 2312(13)
        ld      11, 16(12)
        addi    11, 11, 24
        std     11, 16(12)
        std     2, -24(11)
        mflr    0
        std     0, -16(11)
        lis     0, 0x57ac
        ori     0, 0, 0x6e9d
        std     0, -8(11)
        mfctr   12
        bctrl
        ld      12, 2312(13)
        ld      11, 16(12)
        lis     2, 0x57ac
        ori     2, 2, 0x6e9d
        ld      0, -8(11)
        tdne    0, 2
        ld      0, -16(11)
        mtlr    0
        ld      2, -24(11)
        addi    11, 11, -24
        std     11, 16(12)
        blr
"""


def trampoline(name: str = "__SCT__x", *, scope: str = ".globl", slow: str = "") -> str:
    """One with the patched word in front of the way by the slot, as in fixtures/kernel; `slow` is
    another end of that way."""
    slow = slow or "mtctr 12\n bctr"
    return f"""
        .pushsection .data, "aw"
        .balign 8
.Lslot{name}: .quad 0
        .popsection
        .balign 16
        {scope} {name}
        .type {name}, @function
{name}: addis 2, 12, .TOC.-{name}@ha
        addi 2, 2, .TOC.-{name}@l
        .localentry {name}, .-{name}
        nop
        addis 12, 2, .Lslot{name}@toc@ha
        ld 12, .Lslot{name}@toc@l(12)
        {slow}
        li 3, 0
        blr
        .long .Lslot{name} - .
        .size {name}, .-{name}
"""


def of_the_thread(name: str = "__SCT__x", target: str = "first") -> str:
    """One as in the series on linuxppc-dev: the way by the slot behind a return, the slot in it."""
    return f"""
        .balign 64
        .globl {name}
        .type {name}, @function
{name}: addis 2, 12, .TOC.-{name}@ha
        addi 2, 2, .TOC.-{name}@l
        .localentry {name}, .-{name}
        b {target}
        li 3, 0
        blr
        addis 12, 2, 1f@toc@ha
        ld 12, 1f@toc@l(12)
        mtctr 12
        bctr
        .balign 8
1:      .quad {target}
        .size {name}, .-{name}
"""


def options(offsets: Offsets = OFFSETS, **choices: object) -> Options:
    return Options("livepatch-stack", offsets=offsets, **choices)  # type: ignore[arg-type]


def rewrite(path: Path, target: Path, offsets: Offsets = OFFSETS, **choices: object) -> FilePlan:
    """Plans and writes one file, like `scpatch rewrite --keep-going`."""
    plan = plan_file(path, options(offsets, **choices), target)
    write([plan], allow_refused=True)
    return plan


def rewritten(path: Path, offsets: Offsets = OFFSETS, **choices: object) -> Path:
    """A rewritten copy beside `path`."""
    target = path.with_name(path.stem + ".new" + path.suffix)
    rewrite(path, target, offsets, **choices)
    return target
