"""Counts the instructions that one static call executes, under QEMU.

A program without a C library: it makes each call once, from functions that have saved r2 and from
such that have not, to a target with the caller's TOC and to one with another. The trampolines
are those of fixtures/kernel, patched as the kernel leaves them. QEMU writes down the address of
every instruction that it executes, so that the figures are exact and the same on any machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from scpatch.linux.offsets import Offsets
from scpatch.rewriter import ObjectPlan, Options, plan_file, write
from scpatch.sites.actions import Action
from tests.tools import LD, LLD, assemble, run, section, symbol

OFFSETS = Offsets(paca_toc=16, paca_thread_info=24, livepatch_sp=32)
"""Offsets of the fields that strategies use in the program's PACA and thread_info."""
LINKERS = {"GNU ld": LD, "lld": LLD}
TARGETS = ("same", "other")
NAIVE = "naive"
MARKED = "marked"
"""Not rewritten, but with trampolines that are functions without a local entry point."""


class Caller(NamedTuple):
    """A form of calling functions. The instructions that are counted start behind the prologue."""

    body: str
    before: int
    """Instructions between the prologue and those that are counted."""
    counted: int
    """Instructions from the call to where it goes on."""


CALLERS = {
    "fresh": Caller("bl __SCT__{target}\n nop", 0, 2),
    "saved": Caller("std 2, 24(1)\n bl __SCT__{target}\n nop", 1, 2),
    "nop": Caller("bl helper\n nop\n bl __SCT__{target}\n nop", 0, 4),
    "bare": Caller("bl __SCT__{target}\n addi 3, 3, 1", 0, 2),
    "indirect": Caller(
        """
        addis 12, 2, pointer_{target}@toc@ha
        ld 12, pointer_{target}@toc@l(12)
        std 2, 24(1)
        mtctr 12
        bctrl
        ld 2, 24(1)
        """,
        0,
        6,
    ),
}
"""`nop` comes after the nop of another call; `bare` has no nop after it."""
COMMON = ("fresh", "saved", "nop", "indirect")
"""Those that every strategy takes."""

_TRAMPOLINE = """
        .pushsection .data, "aw"
        .balign 8
1:      .quad {target}
        .popsection
        .balign 16
        .globl __SCT__{name}
        .type __SCT__{name}, @function
__SCT__{name}:
2:      addis 2, 12, .TOC.-2b@ha
        addi 2, 2, .TOC.-2b@l
        .localentry __SCT__{name}, .-2b
        {insn}
        addis 12, 2, 1b@toc@ha
        ld 12, 1b@toc@l(12)
        mtctr 12
        bctr
        li 3, 0
        blr
        .long 1b-.
        .size __SCT__{name}, .-2b
"""
"""As PPC64_SCT in fixtures/kernel/overlay/arch/powerpc/include/asm/static_call_64.h."""

_ENDS = f"""
        TOC near
        blr
        END near
        FUNC helper
        blr
        END helper
        FUNC far
        addis 2, 12, 1
        addi 2, 2, 0
        .localentry far, .-far
        blr
        END far
        .data
        .balign 8
pointer_same: .quad near
pointer_other: .quad far
paca:   .space {OFFSETS.paca_toc}
        .quad .TOC.@tocbase
        .space {OFFSETS.paca_thread_info} - {OFFSETS.paca_toc} - 8
        .quad thread_info
thread_info: .space {OFFSETS.livepatch_sp}
        .quad stack_base
stack_base: .space 4096
stack:  .space 64
"""

_START = """
        .globl _start
_start: lis 2, .TOC.@ha
        addi 2, 2, .TOC.@l
        addis 1, 2, stack@toc@ha
        addi 1, 1, stack@toc@l
        addis 13, 2, paca@toc@ha
        addi 13, 13, paca@toc@l
        mr 14, 2
        li 15, 0
"""

_FINISH = """
        li 0, 1
        mr 3, 15
        .globl finish
finish: sc
"""

_CHECK = """
        bl {caller}
        cmpd 2, 14
        beq 1f
        ori 15, 15, {bit}
1:      mr 2, 14
"""
"""After each call: whether r2 is what it was, as a bit of the exit status."""


def source(callers: Sequence[str] = COMMON, *, marked: bool = False) -> str:
    """The program in assembly."""
    names = _names(callers)
    parts = []
    for name in names:
        caller, target = name.split("_")
        parts.append(f"FRAME {name}\n{CALLERS[caller].body.format(target=target)}\nLEAVE {name}\n")
    insns = {"same": "b near", "other": "nop"}
    targets = {"same": "near", "other": "far"}
    for name in TARGETS:
        text = _TRAMPOLINE.format(name=name, insn=insns[name], target=targets[name])
        parts.append(
            re.sub(r"addis 2, 12.*?\.-2b\n", _MARK.format(name=name), text, flags=re.S)
            if marked
            else text
        )
    checks = [_CHECK.format(caller=name, bit=1 << at) for at, name in enumerate(names)]
    return "".join([*parts, _START, *checks, _FINISH, _ENDS])


_MARK = ".localentry __SCT__{name}, 1\n"


def _names(callers: Sequence[str]) -> list[str]:
    return [f"{caller}_{target}" for caller in callers for target in TARGETS]


@dataclass(frozen=True)
class Counted:
    """What one program did."""

    calls: dict[str, int]
    """Caller and target -> instructions from the call to where it goes on, without the target's
    instructions (those from its local entry on)."""
    wrong: frozenset[str]
    """Those that came back with another r2."""
    size: int
    """Bytes of code in the linked program."""


def count(folder: Path, path: Path, linker: str, callers: Sequence[str] = COMMON) -> Counted:
    """Links the object and runs it."""
    names = _names(callers)
    program, log = folder / "program", folder / "log"
    run(LINKERS[linker], "-static", "-o", program, path)
    done = run("qemu-ppc64le", _step(), "-d", "exec,nochain", "-D", log, program, check=False)
    executed = [int(pc, 16) for pc in _TRACE.findall(log.read_text())] if log.exists() else []
    why = f"QEMU failed: exit status {done.returncode}\n{done.stderr}"
    assert done.returncode >= 0, why
    assert executed[-1:] == [symbol(program, "finish").value], why
    log.unlink()
    wrong = frozenset(name for at, name in enumerate(names) if done.returncode >> at & 1)
    calls = {name: _one(program, executed, name) for name in names}
    return Counted(calls, wrong, section(program, ".text").size)


@cache
def _step() -> str:
    """The option by which QEMU translates, and so writes down, each instruction by itself. QEMU 8.1
    has given it another name, and QEMU 10 knows that one only."""
    new = "-one-insn-per-tb"
    return new if new in run("qemu-ppc64le", "-help").stdout else "-singlestep"


_TRACE = re.compile(r"^Trace \d+: 0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/", re.MULTILINE)


def _one(program: Path, executed: Sequence[int], name: str) -> int:
    """Instructions of one call, the site and what follows it included."""
    caller, target = name.split("_")
    function = symbol(program, name).value
    start = function + _PROLOGUE + 4 * CALLERS[caller].before
    end = start + 4 * CALLERS[caller].counted
    first = executed.index(start)
    last = executed.index(end, first)
    bodies = [symbol(program, {"same": "near", "other": "far"}[target]).value + 8]
    bodies.append(symbol(program, "helper").value)
    return sum(pc not in bodies for pc in executed[first:last])


_PROLOGUE = 20
"""Bytes from a caller's global entry to its first instruction behind the prologue."""


class Rewritten(NamedTuple):
    path: Path
    plan: ObjectPlan | None
    """None where nothing was rewritten."""

    @property
    def states(self) -> dict[str, Action]:
        """Caller and target -> what becomes of its site."""
        return {site.function: site.state for site in self.plan.plan.sites} if self.plan else {}


def rewritten(
    folder: Path, strategy: str, callers: Sequence[str] = COMMON, offsets: Offsets = OFFSETS
) -> Rewritten:
    """The program's object, rewritten for a kernel."""
    path = assemble(folder, source(callers, marked=strategy == MARKED), "before.o")
    if strategy in (NAIVE, MARKED):
        return Rewritten(path, None)
    options = Options(strategy, hoist="kernel", no_nop="thunk", offsets=offsets)
    plan = plan_file(path, options, folder / "after.o")
    write([plan], allow_refused=True)
    return Rewritten(folder / "after.o", plan.objects[0])


def extra(naive: Counted, other: Counted) -> dict[str, int]:
    """Caller and target -> instructions executed more than by the naive call."""
    return {name: other.calls[name] - naive.calls[name] for name in other.calls}
