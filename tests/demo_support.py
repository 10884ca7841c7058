"""Builds, rewrites and runs the demonstration under fixtures/demo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.tools import QEMU

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "fixtures" / "demo" / "build.sh"
CALLERS = ("caller.o", "libcaller.o")
CASES = 24
OK_WITHOUT_SCPATCH = {"same-toc", "pointer", "null", "return-0", "inside-the-library"}
"""These never leave their TOC, or call through a pointer, where the compiler saves r2."""
OF_THE_LIBRARY = {"nested", "from-the-library"}
"""These come back into the shared object, whose caller is libcaller.o."""


def build(*arguments: str | Path, **environment: str) -> None:
    """Run build.sh with variables of the environment set: COMPILER, OPTIONS, LINKER."""
    command = ["sh", str(BUILD), *map(str, arguments)]
    result = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def rewrite_callers(objects: Path, folder: Path) -> Path:
    """Rewrite both callers of `objects` into a new folder, which is returned."""
    folder.mkdir()
    for name in CALLERS:
        rewrite(objects / name, folder / name)
    return folder


def rewrite(before: Path, after: Path) -> None:
    command = [sys.executable, "-m", "scpatch", "rewrite", str(before), "-o", str(after)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def run(program: Path, *cases: str, cpu: str = "power9") -> subprocess.CompletedProcess[str]:
    """Run the program, all cases or those named; under QEMU on a processor of this kind."""
    command = [*QEMU, *(("-cpu", cpu) if QEMU else ()), str(program), *cases]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)


def results(program: Path, cpu: str = "power9") -> dict[str, str]:
    """Run all cases; what the program says for each, and whether its sum and status agree."""
    done = run(program, cpu=cpu)
    lines = re.findall(r"^case (\S+) (ok|FAIL got .+ want -?\d+)$", done.stdout, re.M)
    by_case = dict(lines)
    ok = sum(said == "ok" for said in by_case.values())
    assert len(by_case) == len(lines) == CASES, done.stdout + done.stderr
    assert done.stdout.endswith(f"\n{ok} ok, {CASES - ok} failed\n")
    assert done.returncode == (0 if ok == CASES else 1)
    return by_case


def passed(by_case: dict[str, str]) -> set[str]:
    return {case for case, said in by_case.items() if said == "ok"}
