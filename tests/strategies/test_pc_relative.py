"""Trampolines in pc-relative code: what each strategy does, linked and executed.

The mixed program is what no kernel is: code that uses r2 calls a pc-relative trampoline. Its target
sets r2 to -1, as the ABI allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch import strategies
from scpatch.errors import ScpatchError
from scpatch.rewriter import Options, plan_file, write
from tests.tools import LD, LLD, QEMU, run, symbol

Assemble = Callable[..., Path]

TRAMPOLINE = """
        FUNC __SCT__x
        .localentry __SCT__x, {other}
        b target@notoc
        nop
        pld 12, slot@pcrel
        mtctr 12
        bctr
        END __SCT__x
        .data
        .globl slot
slot:   .quad target
        .text
"""
TARGET = """
        FUNC target
        .localentry target, 1
        li 2, -1
        addi 3, 3, 1
        blr
        END target
"""
PC_RELATIVE = """
        FUNC calls
        .localentry calls, 1
        mflr 0
        std 0, 16(1)
        stdu 1, -32(1)
        bl __SCT__x@notoc
        addi 1, 1, 32
        ld 0, 16(1)
        mtlr 0
        blr
        END calls
        FUNC tail
        .localentry tail, 1
        b __SCT__x@notoc
        END tail
"""
USES_R2 = """
        FRAME uses_r2
        std 31, 40(1)
        mr 31, 2
        CALL __SCT__x
        cmpd 2, 31
        ld 31, 40(1)
        beq 1f
        li 3, 99
1:      LEAVE uses_r2
"""
START = """
        FUNC _start
        lis 2, .TOC.@ha
        addi 2, 2, .TOC.@l
        .localentry _start, .-_start
        stdu 1, -64(1)
        li 3, 0
        CALL calls
        CALL tail
        CALL uses_r2
        li 0, 1
        sc
        END _start
"""
"""Exits with 3, a call each, or with 99 if a call has lost r2."""

RIGHT, LOST = 3, 99


def rewritten(path: Path, strategy: str) -> Path:
    target = path.with_name(f"{strategy}.{path.name}")
    plan = plan_file(path, Options(strategy), target)
    if not plan.outputs:
        return path
    write([plan])
    return target


def status(linker: str, *objects: Path) -> int:
    program = objects[0].with_name("program")
    run(linker, "-o", program, *objects)
    return run(QEMU[0], "-cpu", "power10", program, check=False).returncode


@pytest.mark.parametrize("other", [0, 1])
@pytest.mark.parametrize("strategy", strategies.names())
def test_nothing_changes(assemble: Assemble, strategy: str, other: int) -> None:
    """Not even the note, and no offset of the kernel is asked for."""
    path = assemble(TRAMPOLINE.format(other=other) + PC_RELATIVE)
    plan = plan_file(path, Options(strategy))
    assert plan.outputs == ()
    assert [site.state for site in plan.objects[0].plan.sites] == ["notoc", "notoc"]
    uncalled = assemble(TRAMPOLINE.format(other=other), "uncalled.o")
    assert plan_file(uncalled, Options(strategy)).outputs == ()


@pytest.mark.parametrize("linker", [LD, LLD])
@pytest.mark.parametrize(
    ("strategy", "other", "expected"),
    [
        ("", 0, LOST),
        ("", 1, RIGHT),
        ("callsite", 0, RIGHT),
        ("callsite", 1, RIGHT),
        ("localentry", 0, RIGHT),
        ("localentry", 1, RIGHT),
    ],
)
def test_a_caller_that_uses_r2(
    assemble: Assemble, linker: str, strategy: str, other: int, expected: int
) -> None:
    path = assemble(TRAMPOLINE.format(other=other) + TARGET + PC_RELATIVE + USES_R2 + START)
    new = rewritten(path, strategy) if strategy else path
    assert status(linker, new) == expected


def test_the_mark_is_all_that_changes(assemble: Assemble) -> None:
    path = assemble(TRAMPOLINE.format(other=0) + TARGET + PC_RELATIVE + USES_R2)
    plan = plan_file(path, Options("localentry"))
    assert [edit.what for edit in plan.objects[0].plan.trampolines] == ["marked"]
    assert not plan.objects[0].plan.stubs


def test_livepatch_stack_cannot_serve_it(assemble: Assemble) -> None:
    path = assemble(TRAMPOLINE.format(other=0) + PC_RELATIVE + USES_R2)
    sites = plan_file(path, Options("livepatch-stack")).objects[0].plan.sites
    assert [(site.function, site.state, site.code) for site in sites] == [
        ("calls", "notoc", ""),
        ("tail", "notoc", ""),
        ("uses_r2", "refused", "SCP230"),
    ]
    assert "__SCT__x is pc-relative code" in sites[2].detail


def test_paca_still_needs_its_offset(assemble: Assemble) -> None:
    path = assemble(TRAMPOLINE.format(other=0) + PC_RELATIVE + USES_R2)
    with pytest.raises(ScpatchError, match="PACATOC is not known"):
        plan_file(path, Options("paca"))


def test_other_trampolines_of_the_object_are_marked(assemble: Assemble) -> None:
    other = "FUNC __SCT__y\n b target\nEND __SCT__y\n"
    path = assemble(TRAMPOLINE.format(other=0) + PC_RELATIVE + other)
    new = rewritten(path, "localentry")
    assert symbol(new, "__SCT__x").other == symbol(path, "__SCT__x").other
    assert symbol(new, "__SCT__y").other != symbol(path, "__SCT__y").other
