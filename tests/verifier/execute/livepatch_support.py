"""Variants of the code that saves LR and r2 on the livepatch stack, right and wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scpatch.verifier.execute import Outcome, execute
from scpatch.verifier.options import KernelOffsets
from scpatch.verifier.tools import find_tools
from scpatch.verifier.types import CallSite
from tests.strategies.livepatch_support import CODE
from tests.tools import CROSS
from tests.verifier.execute.support import AS, assemble, labels, site_at

OFFSETS = KernelOffsets(paca_thread_info=2312, livepatch_sp=16)
LINES = tuple(line.strip() for line in CODE.strip().splitlines())


def words(lines: Sequence[str], directory: Path) -> list[int]:
    """The code, assembled by GNU as."""
    path = directory / "words.o"
    source = ".machine power9\n" + "\n".join(lines) + "\n"
    subprocess.run([AS, "-o", path, "-"], input=source, text=True, check=True)
    flat = directory / "words.bin"
    objcopy = CROSS + "objcopy"
    subprocess.run([objcopy, "-O", "binary", "-j", ".text", str(path), str(flat)], check=True)
    data = flat.read_bytes()
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def module(number: int, lines: Sequence[str], call: str = "bl __SCT__{0}\n nop") -> str:
    """A call, its trampoline and the code that this branches to, with the number in all labels."""
    code = "\n".join(lines)
    return f"""
        .text
        .balign 16
caller{number}: nop
site{number}: {call.format(number)}
        nop
        .section .data
slot{number}: .quad 0
        .text
        .globl __SCT__{number}
        .type __SCT__{number}, @function
__SCT__{number}: addis 2, 12, .TOC.-__SCT__{number}@ha
        addi 2, 2, .TOC.-__SCT__{number}@l
        .localentry __SCT__{number}, .-__SCT__{number}
        b other
path{number}: addis 12, 2, slot{number}@toc@ha
        ld 12, slot{number}@toc@l(12)
        mtctr 12
exit{number}: b code{number}
        .size __SCT__{number}, .-__SCT__{number}
code{number}:
{code}
end{number}:
"""


def site(path: Path, number: int = 0, *, naive: bool = False) -> CallSite:
    """The site of a module, as the proof describes it."""
    symbols = {name: label.value for name, label in labels(path).items()}
    start, end = symbols[f"code{number}"], symbols[f"end{number}"]
    return replace(
        site_at(path, f"site{number}", trampoline=f"__SCT__{number}"),
        ctr_path=(symbols[f"path{number}"], symbols[f"exit{number}"]),
        code=None if naive else (start, end - start),
    )


def run_all(directory: Path, variants: Sequence[Sequence[str]]) -> list[Outcome]:
    """Runs each variant of the code in a separate module, all in the same program."""
    source = "".join(module(number, lines) for number, lines in enumerate(variants))
    path = assemble(directory, source)
    sites = [site(path, number) for number in range(len(variants))]
    return execute(path, sites, find_tools(), offsets=OFFSETS, limit=0.2)


def run_one(directory: Path, lines: Sequence[str] = LINES) -> Outcome:
    (outcome,) = run_all(directory, [lines])
    return outcome


def edited(old: str, *new: str) -> tuple[str, ...]:
    """The code with the line `old` replaced."""
    (at,) = (at for at, line in enumerate(LINES) if " ".join(line.split()) == old)
    return (*LINES[:at], *new, *LINES[at + 1 :])


def moved(line: int, to: int) -> tuple[str, ...]:
    """The code with a line moved before the line at another number."""
    rest = [*LINES[:line], *LINES[line + 1 :]]
    return (*rest[:to], LINES[line], *rest[to:])
