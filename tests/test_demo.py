"""The demonstration under fixtures/demo: without a saved r2 it fails, rewritten it does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copytree

import pytest

from tests.demo_support import (
    CALLERS,
    CASES,
    OF_THE_LIBRARY,
    OK_WITHOUT_SCPATCH,
    build,
    passed,
    results,
    rewrite_callers,
    run,
)

STD_R2 = (0xF8410018).to_bytes(4, "little")
NOP = (0x60000000).to_bytes(4, "little")
BRANCH = (0x48000000).to_bytes(4, "little")

pytestmark = pytest.mark.parametrize(
    ("compiler", "linker"), [(c, k) for c in ("gcc", "clang") for k in ("bfd", "lld")]
)

Build = Callable[[str], tuple[Path, Path]]
Link = Callable[[Path], dict[str, str]]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The objects of a compiler, and its callers rewritten; made once."""

    @cache
    def make(compiler: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(f"demo-{compiler}")
        build("compile", folder / "objects", COMPILER=compiler)
        return folder / "objects", rewrite_callers(folder / "objects", folder / "rewritten")

    return make


@pytest.fixture
def objects(built: Build, compiler: str) -> Path:
    return built(compiler)[0]


@pytest.fixture
def rewritten(built: Build, compiler: str, tmp_path: Path) -> Path:
    """A folder with both callers, rewritten, which a test may change."""
    return Path(copytree(built(compiler)[1], tmp_path / "rewritten"))


@pytest.fixture
def link(tmp_path: Path, objects: Path, linker: str) -> Link:
    """Links with the callers from a folder and gives what the program says."""

    def linked(callers: Path) -> dict[str, str]:
        program = tmp_path / f"program-{callers.name}"
        build("link", objects, callers, program, LINKER=linker)
        return results(program / "demo")

    return linked


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
