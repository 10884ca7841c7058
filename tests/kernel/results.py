"""What the boots of the test runs have shown, kept for the table of `tests.kernel.table`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.kernel import toolchain
from tests.kernel.boot import Log
from tests.kernel.build import Kernel
from tests.kernel.cases import cases
from tests.kernel.images import calls
from tests.kernel.linux import Linux
from tests.kernel.store import folder, key
from tests.kernel.variants import SCPATCH, Variant


@dataclass(frozen=True)
class Result:
    """A boot of one variant of a kernel through all its steps."""

    scpatch: str
    """Stands for the state of scpatch/."""
    linux: str
    """The version of the source package."""
    compiler: str
    linker: str
    variant: str
    flags: str | None
    mmu: str
    steps: tuple[str, ...]
    calls: int
    """Of trampolines, in vmlinux."""
    right: int
    """Cases in which r2 and the value were right."""
    cases: int
    """Those that were to be reported."""
    ended: bool
    """Whether it came to its end, without an oops."""


def state() -> str:
    """Stands for the scpatch of this checkout."""
    return key(SCPATCH)


def keep_result(
    linux: Linux, variant: Variant, kernel: Kernel, log: Log, mmu: str, steps: Sequence[str]
) -> None:
    """Writes a file into the cache, in the place of the last one of the same variant."""
    compiler, linker = toolchain.version(linux, variant).splitlines()
    result = Result(
        state(),
        linux.package.version,
        _short(compiler),
        _short(linker),
        variant.name,
        variant.flags,
        mmu,
        tuple(steps),
        calls(kernel.vmlinux).total(),
        sum(case.ok for case in log.cases.values()),
        len(cases(*steps)),
        log.finished and not log.oops,
    )
    name = "-".join([linux.version, variant.name, mmu, *steps])
    place = results_folder()
    place.mkdir(exist_ok=True)
    (place / f"{name}.json").write_text(json.dumps(asdict(result), indent=1) + "\n")


def results_folder() -> Path:
    return folder() / "results"


def _short(text: str) -> str:
    """`gcc 12.2.0` of the line that a tool says of its version."""
    kinds = {"clang": "clang", "LLD": "lld", "GNU ld": "ld", "gcc": "gcc"}
    name = next(short for known, short in kinds.items() if known in text)
    found = re.findall(r"\b\d+(?:\.\d+)+", text)
    return f"{name} {found[0]}"
