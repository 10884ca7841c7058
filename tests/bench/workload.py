"""Builds the kernels of the workload, boots them, and reads what they count.

The workload is the module fixtures/kernel/workload. It counts by the timebase, which advances by
the same amount with each instruction under `qemu -icount`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.kernel import toolchain
from tests.kernel.boot import Log, boot
from tests.kernel.build import Kernel, build, object_tree
from tests.kernel.linux import Linux
from tests.kernel.make import edited, make, make_command
from tests.kernel.source import KERNEL, pristine_tree
from tests.kernel.store import KernelError, folder, key, locked, logged, made
from tests.kernel.variants import NAIVE, Variant

WORKLOAD = KERNEL / "workload"
COUNTED = ("-icount", "shift=3,sleep=off")
"""Each instruction takes 8 ns of the guest's time, which is about four ticks of its timebase."""

_BRANCHES = re.compile(r"workload: branches (\d+) ticks (\d+)$")
_ROUNDS = re.compile(r"workload: (\w+) (\w+) calls (\d+) ticks (\d+) (\d+) (\d+)$")
_TOLERANCE = 1e-5
"""A loop is entered by a few instructions, and the timebase is read at any point of a tick."""


class Loop(Enum):
    """What the module does, by the names that it prints."""

    MEMORY = "memory"
    """kmalloc() and kfree()."""
    TIMERS = "timers"
    """A high-resolution timer that is started in the past, and its interrupt."""


class Where(Enum):
    """Where the probes of the tracepoints are."""

    NOWHERE = "nowhere"
    KERNEL = "kernel"
    MODULE = "module"


@dataclass(frozen=True)
class Rounds:
    """Instructions of a loop's rounds."""

    least: int
    median: int
    most: int
    calls: int
    """How often the median round calls a probe; known for probes in a module only."""


Counts = Mapping[tuple[Loop, Where], Rounds]


def indirect_kernel(linux: Linux) -> Kernel:
    """The kernel as the package has it, without static calls: it calls through pointers."""
    own = build(linux, NAIVE)
    with locked(folder() / "lock"):
        tree = _indirect_tree(linux)
        return Kernel(tree / "vmlinux", (_module(linux, tree, NAIVE),), own.init)


def indirect_configuration() -> str:
    """That of the tests, but for the options that the overlay adds."""
    lines = (KERNEL / "config").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if "STATIC_CALL" not in line)


def _indirect_tree(linux: Linux) -> Path:
    tree, log = linux.folder / "indirect", linux.folder / "indirect.log"
    config = indirect_configuration()
    wanted = key(linux.package.version, config, toolchain.version(linux, NAIVE))
    with made(tree, wanted) as missing:
        if missing:
            tree.rmdir()
            log.unlink(missing_ok=True)
            logged(["cp", "-al", pristine_tree(linux), tree], log)
            (tree / "asked.config").write_text(config)
            environment = {"KCONFIG_ALLCONFIG": str(tree / "asked.config")}
            words = [*make_command(linux, tree, NAIVE), *toolchain.words(linux, NAIVE)]
            chosen = {**environment, **toolchain.environment()}
            logged([*words, "allnoconfig"], log, environment=chosen)
            make(linux, tree, NAIVE, log, "vmlinux", "modules")
    return tree


def static_kernel(linux: Linux, variant: Variant) -> Kernel:
    """A kernel of the tests, with the workload as its only module."""
    kernel = build(linux, variant)
    with locked(folder() / "lock"):
        module = _module(linux, object_tree(linux, variant), variant)
    return Kernel(kernel.vmlinux, (module,), kernel.init)


def _module(linux: Linux, tree: Path, variant: Variant) -> Path:
    """To be called with the lock held."""
    place = tree / "workload" / variant.name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(WORKLOAD, place)
    with edited(linux, tree, variant):
        make(linux, tree, variant, place / "make.log", f"M={place}", "modules")
    return place / "workload.ko"


def run(kernel: Kernel, wheres: Iterable[Where], scratch: Path) -> Log:
    """Boots the kernel on one processor, and runs the loops with each kind of probes."""
    steps = [f"workload/{where.value}" for where in wheres]
    return boot(kernel, steps, scratch, processors=1, options=COUNTED)


def counts(lines: Sequence[str]) -> Counts:
    """What a boot's log says.

    Raises KernelError where the timebase does not advance with the instructions.
    """
    ticks = _ticks_of_one(lines)
    counted: dict[tuple[Loop, Where], Rounds] = {}
    for match in filter(None, map(_ROUNDS.search, lines)):
        loop, where, calls, *rounds = match.groups()
        least, median, most = (round(int(value) / ticks) for value in rounds)
        counted[Loop(loop), Where(where)] = Rounds(least, median, most, int(calls))
    return counted


def _ticks_of_one(lines: Sequence[str]) -> float:
    """Ticks of one instruction, from loops of a known length."""
    loops = [tuple(map(int, match.groups())) for match in map(_BRANCHES.search, lines) if match]
    measured = [ticks / branches for branches, ticks in loops]
    if not measured or max(measured) - min(measured) > _TOLERANCE * min(measured):
        raise KernelError(f"the timebase does not advance with instructions: {loops}")
    return measured[0]
