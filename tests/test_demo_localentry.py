"""The demonstration under fixtures/demo with marked trampolines: a program and a shared object,
where the linker saves r2 and there is no PACA."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from scpatch.verifier.files import verify_link
from scpatch.verifier.verdict import Verdict
from tests.demo_support import CALLERS, CASES, build, passed, results
from tests.strategies.localentry_support import marked

DEFINERS = (*CALLERS, "elsewhere.o")
"""These define trampolines; the last one is called from the first."""

IMAGES = {"demo": ("caller.o", "elsewhere.o"), "libdemo.so": ("libcaller.o",)}
"""What is linked, and the objects with calls or trampolines in it."""


@pytest.fixture(params=[(c, k) for c in ("gcc", "clang") for k in ("bfd", "lld")], ids="-".join)
def tools(request: pytest.FixtureRequest) -> tuple[str, str]:
    compiler, linker = request.param
    return compiler, linker


def linked(folder: Path, tools: tuple[str, str], names: tuple[str, ...]) -> tuple[Path, Path]:
    """The program and its objects, of which those with these names are marked."""
    compiler, linker = tools
    build("compile", folder / "objects", COMPILER=compiler)
    objects = Path(copytree(folder / "objects", folder / "marked"))
    for name in names:
        marked(objects / name).replace(objects / name)
    build("link", objects, objects, folder / "program", LINKER=linker)
    return folder / "program", objects


def look(program: Path, objects: Path, name: str) -> Verdict:
    return verify_link([objects / image for image in IMAGES[name]], program / name)


def test_passes_marked(tmp_path: Path, tools: tuple[str, str]) -> None:
    program, objects = linked(tmp_path, tools, DEFINERS)
    by_case = results(program / "demo")
    assert len(passed(by_case)) == CASES, by_case
    for name in IMAGES:
        verdict = look(program, objects, name)
        assert verdict.proven, verdict
        assert {site.state for site in verdict.proof.sites} == {"linker"}


def test_a_trampoline_that_was_forgotten(tmp_path: Path, tools: tuple[str, str]) -> None:
    """The callers' object cannot tell; what was linked from it does, as does the run."""
    program, objects = linked(tmp_path, tools, CALLERS)
    by_case = results(program / "demo")
    failed = set(by_case) - passed(by_case)
    # A compiler may read what call_two() adds before its second call: clang 21 does.
    assert failed - {"two-calls"} == {"other-object"}
    verdict = look(program, objects, "demo")
    assert {site.trampoline for site in verdict.proof.sites if not site.right} == {
        "__SCT__elsewhere"
    }
    assert look(program, objects, "libdemo.so").proven
