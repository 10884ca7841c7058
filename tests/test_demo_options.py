"""The demonstration as other compiler options make it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.demo_support import (
    CASES,
    OK_WITHOUT_SCPATCH,
    build,
    passed,
    results,
    rewrite_callers,
)

COMPILERS = ("gcc", "clang")


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "options",
    ["-O0", "-Os", "-O3 -ffunction-sections", "-O2 -mcmodel=small", "-O2 -mcpu=power10 -mno-pcrel"],
)
def test_needs_the_rewrite_and_passes_with_it(tmp_path: Path, compiler: str, options: str) -> None:
    objects = tmp_path / "objects"
    build("compile", objects, COMPILER=compiler, OPTIONS=options)
    build("link", objects, objects, tmp_path / "before")
    assert passed(results(tmp_path / "before" / "demo", "power10")) == OK_WITHOUT_SCPATCH
    build("link", objects, rewrite_callers(objects, tmp_path / "rewritten"), tmp_path / "after")
    after = results(tmp_path / "after" / "demo", "power10")
    assert len(passed(after)) == CASES, after


@pytest.mark.parametrize("linker", ["bfd", "lld"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_pc_relative_code_needs_nothing(tmp_path: Path, compiler: str, linker: str) -> None:
    objects = tmp_path / "objects"
    build("compile", objects, COMPILER=compiler, OPTIONS="-O2 -mcpu=power10")
    build("link", objects, objects, tmp_path / "before", LINKER=linker)
    before = results(tmp_path / "before" / "demo", "power10")
    assert len(passed(before)) == CASES, before
    rewritten = rewrite_callers(objects, tmp_path / "rewritten")
    for path in rewritten.iterdir():
        assert path.read_bytes() == (objects / path.name).read_bytes()
