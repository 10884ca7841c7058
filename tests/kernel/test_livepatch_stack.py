"""Strategy livepatch-stack: trampolines of the image and of modules keep r2, and calls stay."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests import tools
from tests.kernel.boot import Log
from tests.kernel.build import Kernel, build
from tests.kernel.cases import CASES, TRACE, cases
from tests.kernel.conftest import Booted
from tests.kernel.images import calls, module, stubs
from tests.kernel.linux import Linux
from tests.kernel.variants import BY_LIVEPATCH, REWRITTEN
from tests.tools import CROSS

STEPS = (*(step for step in CASES if step != "stubs"), *TRACE)
"""Its calls have no stubs."""

_CODE = r"r2lps\.[0-9a-f]{12}"


@pytest.fixture(scope="session")
def kernel(linux: Linux) -> Kernel:
    return build(linux, BY_LIVEPATCH)


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.short)], ids=["radix", "hash"])
def log(booted: Booted, request: pytest.FixtureRequest) -> Log:
    return booted(BY_LIVEPATCH, *STEPS, hash_mmu=request.param)


def test_every_case_passes(log: Log) -> None:
    assert log.faults(cases(*STEPS)) == []


def test_the_calls_stay_as_they_are(naive: Kernel, kernel: Kernel) -> None:
    assert calls(kernel.vmlinux) == calls(naive.vmlinux)
    assert not stubs(kernel.vmlinux)
    before, after = (module(each, "sct_calls.ko") for each in (naive, kernel))
    assert calls(after) == calls(before)


def exits(image: Path) -> list[str]:
    """What follows each `mtctr r12` in a trampoline: an instruction without its address."""
    listed = tools.run(CROSS + "objdump", "-d", "--no-show-raw-insn", image).stdout
    exits_seen, inside = [], False
    for line, following in pairwise(listed.splitlines()):
        if match := re.match(r"[0-9a-f]{16} <(.*)>:", line):
            inside = match[1].startswith("__SCT__")
        if inside and line.endswith("\tmtctr   r12"):
            exits_seen.append(following.partition("\t")[2])
    return exits_seen


def test_every_trampoline_leaves_by_the_code(naive: Kernel, kernel: Kernel) -> None:
    for name in ("vmlinux", "sct_calls.ko"):
        before, after = (
            exits(each.vmlinux if name == "vmlinux" else module(each, name))
            for each in (naive, kernel)
        )
        assert len(before) == len(after) > 4
        assert set(before) == {"bctr"}
        assert all(re.fullmatch(rf"b +[0-9a-f]+ <{_CODE}>", line) for line in after)


def test_the_offsets_are_those_of_the_kernel(kernel: Kernel) -> None:
    """The kernel's own code for live patches loads the same, by the disassembly of both."""
    listed = tools.run(CROSS + "objdump", "-d", "--no-show-raw-insn", kernel.vmlinux).stdout
    used = set()
    for name in ("livepatch_handler", _CODE):
        (body,) = re.findall(rf"<{name}>:\n((?:.+\n)+)", listed)[:1]
        used.add(tuple(re.findall(r"ld +r1[12],(\d+)\(r1[23]\)", body)[:2]))
    assert len(used) == 1


def stacks(log: Log) -> list[list[str]]:
    """The stack traces from calls of sct_m_one: names of the functions that have called, the
    nearest first."""
    calls: list[tuple[str, list[str]]] = []
    for line in log.lines:
        words = line.partition("scpatch-init: stack ")[2].split()
        if words[:1] == ["of"]:
            calls.append((words[1], []))
        elif words:
            calls[-1][1].append(words[0])
    return [stack for function, stack in calls if function == "sct_m_one"]


def test_a_backtrace_from_the_target_of_another_toc(booted: Booted) -> None:
    """The code stands in the caller's place, and behind it the trace goes on as ever: the target
    has stored its return address, one in the code, to the frame of the caller."""
    traces = {
        variant.name: stacks(booted(variant, *steps))
        for variant, steps in ((BY_LIVEPATCH, STEPS), (REWRITTEN, tuple(TRACE)))
    }
    (ours, theirs) = traces.values()
    assert len(ours) == len(theirs) > 4
    hidden = []
    for trace, other in zip(ours, theirs, strict=True):
        assert trace[1:] == other[1:]
        assert trace[1:3] == ["sct_calls_init", "do_one_initcall"]
        if trace[0] != other[0]:
            assert re.fullmatch(_CODE, trace[0])
            hidden.append(other[0])
    assert hidden == ["sct_k_calls", "m_calls_k", "sct_k_calls_saved"]
