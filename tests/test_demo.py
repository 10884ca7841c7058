"""The demonstration under fixtures/demo: without a saved r2 it fails, rewritten it does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "fixtures" / "demo" / "build.sh"
CALLERS = ("caller.o", "libcaller.o")
PATH = os.environ["PATH"]
CASES = 24
OK_WITHOUT_SCPATCH = {"same-toc", "pointer", "null", "return-0", "inside-the-library"}
"""These never leave their TOC, or call through a pointer, where the compiler saves r2."""
OF_THE_LIBRARY = {"nested", "from-the-library"}
"""These come back into the shared object, whose caller is libcaller.o."""
STD_R2 = (0xF8410018).to_bytes(4, "little")
NOP = (0x60000000).to_bytes(4, "little")
BRANCH = (0x48000000).to_bytes(4, "little")

pytestmark = pytest.mark.parametrize(
    ("compiler", "linker"), [(c, k) for c in ("gcc", "clang") for k in ("bfd", "lld")]
)

Link = Callable[[Path], dict[str, str]]


def build(environment: dict[str, str], *arguments: str | Path) -> None:
    command = ["sh", str(BUILD), *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def rewrite(before: Path, after: Path) -> None:
    command = [sys.executable, "-m", "scpatch", "rewrite", str(before), "-o", str(after)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def run(program: Path, *cases: str) -> subprocess.CompletedProcess[str]:
    command = ["qemu-ppc64le", "-L", "/usr/powerpc64le-linux-gnu", str(program), *cases]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)


def results(program: Path) -> dict[str, str]:
    """Run all cases; what the program says for each, and whether its sum and status agree."""
    done = run(program)
    lines = re.findall(r"^case (\S+) (ok|FAIL got .+ want -?\d+)$", done.stdout, re.M)
    by_case = dict(lines)
    ok = sum(said == "ok" for said in by_case.values())
    assert len(by_case) == len(lines) == CASES, done.stdout + done.stderr
    assert done.stdout.endswith(f"\n{ok} ok, {CASES - ok} failed\n")
    assert done.returncode == (0 if ok == CASES else 1)
    return by_case


def passed(by_case: dict[str, str]) -> set[str]:
    return {case for case, said in by_case.items() if said == "ok"}


@pytest.fixture
def objects(tmp_path: Path, compiler: str) -> Path:
    build({"PATH": PATH, "COMPILER": compiler}, "compile", tmp_path / "objects")
    return tmp_path / "objects"


@pytest.fixture
def link(tmp_path: Path, objects: Path, linker: str) -> Link:
    """Links with the callers from a folder and gives what the program says."""

    def linked(callers: Path) -> dict[str, str]:
        program = tmp_path / f"program-{callers.name}"
        build({"PATH": PATH, "LINKER": linker}, "link", objects, callers, program)
        return results(program / "demo")

    return linked


@pytest.fixture
def rewritten(tmp_path: Path, objects: Path) -> Path:
    """A folder with both callers, rewritten."""
    folder = tmp_path / "rewritten"
    folder.mkdir()
    for name in CALLERS:
        rewrite(objects / name, folder / name)
    return folder


def test_fails_as_it_is(objects: Path, link: Link) -> None:
    by_case = link(objects)
    assert passed(by_case) == OK_WITHOUT_SCPATCH
    wrong_number = re.compile(r"FAIL got -?\d+ want")
    assert any(wrong_number.match(said) for said in by_case.values()), by_case


def test_passes_rewritten(rewritten: Path, link: Link) -> None:
    by_case = link(rewritten)
    assert len(passed(by_case)) == CASES, by_case


def test_each_caller_needs_it(objects: Path, rewritten: Path, link: Link) -> None:
    (rewritten / "libcaller.o").write_bytes((objects / "libcaller.o").read_bytes())
    by_case = link(rewritten)
    assert set(by_case) - passed(by_case) == OF_THE_LIBRARY


def test_a_restore_without_the_save_fails(rewritten: Path, link: Link) -> None:
    for name in CALLERS:
        data = (rewritten / name).read_bytes()
        assert STD_R2 + BRANCH in data
        (rewritten / name).write_bytes(data.replace(STD_R2 + BRANCH, NOP + BRANCH))
    assert len(passed(link(rewritten))) < CASES


def test_runs_the_cases_that_are_named(tmp_path: Path, objects: Path, link: Link) -> None:
    link(objects)
    program = tmp_path / "program-objects" / "demo"
    some = run(program, "null", "same-toc")
    assert (some.returncode, some.stdout) == (0, "case same-toc ok\ncase null ok\n2 ok, 0 failed\n")
    assert run(program, "no-such-case").returncode == 2
