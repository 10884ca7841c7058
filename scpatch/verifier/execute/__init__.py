"""Run every call site of an object, with a hostile target after its trampoline.

The dynamic half of `scpatch verify`. `link` links the object with harness.s into a user-space
program. `run` has the harness do to each site what the kernel does at run time. `judge` compares
what it records with what the ABI permits. Nothing is shared with scpatch.elf.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scpatch.verifier.execute.judge import Outcome
from scpatch.verifier.execute.link import link
from scpatch.verifier.execute.run import run_sites
from scpatch.verifier.options import NO_OFFSETS, KernelOffsets
from scpatch.verifier.phases import enter
from scpatch.verifier.tools import Tools
from scpatch.verifier.types import CallSite

__all__ = ["TIME_LIMIT", "Outcome", "execute"]

TIME_LIMIT: Final = 0.5
"""Processor time that a site gets, in seconds. It needs microseconds."""


def execute(
    path: Path,
    sites: Sequence[CallSite],
    tools: Tools,
    offsets: KernelOffsets = NO_OFFSETS,
    *,
    limit: float = TIME_LIMIT,
) -> list[Outcome]:
    """Run each site of the object at `path`; outcomes in the order of `sites`. Sites that need no
    r2 (R_PPC64_REL24_NOTOC) do not belong here: they fail, as they must.

    `offsets` say what r13 points to; without them every access through r13 faults. `limit` is the
    processor time in seconds that a site may take. Whatever goes wrong at a site is in its outcome.

    Raises ScpatchError (SCP302) if the object cannot be linked or the program does not start.
    """
    if not sites:
        return []
    with tempfile.TemporaryDirectory(prefix="scpatch-run-") as directory:
        enter("linking a program of the calls")
        program = link(path, sites, tools, Path(directory))
        return run_sites(program, sites, tools, offsets, limit)
