"""fixtures/demo.sh and the set-up that it shares with tests/run.sh."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools import NATIVE

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def script(name: str, *arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """Run a script of fixtures/ with variables of the environment set, or None: unset."""
    environment = os.environ | {key: value for key, value in changes.items() if value is not None}
    for key, value in changes.items():
        if value is None:
            environment.pop(key, None)
    return subprocess.run(
        ["/bin/sh", str(FIXTURES / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the installed programs, as the set-up prints it."""
    result = script("setup.sh", "demo")
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.strip())


@pytest.fixture
def fake(tmp_path: Path, programs: Path) -> Path:
    """A cache folder that passes for set up, whose scpatch a test writes."""
    venv = tmp_path / "cache" / "scpatch" / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("stamp", "checkout"):
        shutil.copy(programs.parent / name, venv / name)
    return tmp_path / "cache"


def write_scpatch(cache: Path, text: str) -> None:
    program = cache / "scpatch" / "venv" / "bin" / "scpatch"
    program.write_text(f"#!/bin/sh\n{text}")
    program.chmod(0o755)


def test_demo_passes(programs: Path, tmp_path: Path) -> None:
    result = script("demo.sh", str(tmp_path / "demo"))
    assert result.returncode == 0, result.stdout + result.stderr
    expectation = "Expect 19 of 24 cases to FAIL"
    assert result.stdout.index(expectation) < result.stdout.index(" FAIL got ")
    verdict = result.stdout.splitlines()[-1]
    assert verdict.startswith("demo: PASSED: before: 5 ok, 19 failed; after: 24 ok, 0 failed; ")
    assert (programs / "scpatch").exists()


def test_demo_fails_where_nothing_is_rewritten(fake: Path, tmp_path: Path) -> None:
    write_scpatch(fake, 'case $1 in rewrite) cp "$2" "$4" ;; diff) exit 1 ;; esac\n')
    result = script("demo.sh", str(tmp_path / "demo"), XDG_CACHE_HOME=str(fake))
    assert result.returncode == 1
    assert result.stdout.endswith("\ndemo: FAILED: a case failed after the rewrite\n")


def test_demo_fails_where_verify_does(fake: Path, tmp_path: Path, programs: Path) -> None:
    write_scpatch(fake, f'[ "$1" != verify ] || exit 1\nexec {programs}/scpatch "$@"\n')
    result = script("demo.sh", str(tmp_path / "demo"), XDG_CACHE_HOME=str(fake))
    assert result.returncode == 1
    assert result.stdout.endswith("\ndemo: FAILED: caller.o is not proven\n")


@pytest.mark.parametrize("home", [None, ""])
def test_set_up_without_a_home(programs: Path, home: str | None) -> None:
    result = script("setup.sh", "demo", HOME=home, XDG_CACHE_HOME=None)
    assert result.returncode == 0, result.stderr
    expected = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache/scpatch/venv/bin"
    assert Path(result.stdout.strip()) == expected
    assert (programs / "scpatch").exists()


TOOLCHAIN = {"gcc"} if NATIVE else {"gcc-powerpc64le-linux-gnu", "qemu-user"}
COMPILER = (
    "a C compiler (Debian: gcc)"
    if NATIVE
    else "a ppc64le cross compiler (Debian: gcc-powerpc64le-linux-gnu)"
)
FOR_TESTS = {*TOOLCHAIN, "make", "strace", "clang", "lld"}
MISSING = {
    "demo": TOOLCHAIN,
    "test": FOR_TESTS,
    "kernel": {*FOR_TESTS, "gcc", "bison", "flex", "qemu-system-ppc"},
}
"""Some of what each needs."""


@pytest.mark.parametrize("kind", MISSING)
def test_set_up_tells_a_user_what_is_missing(tmp_path: Path, kind: str) -> None:
    for name in ("cut", "dirname", "flock", "getent", "mkdir", "uname"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    cache = tmp_path / "cache"
    result = script("setup.sh", kind, PATH=str(tmp_path), XDG_CACHE_HOME=str(cache))
    assert (result.returncode, result.stdout) == (1, "")
    message = result.stderr.splitlines()[-1]
    assert message.startswith("setup: install them; with Debian, as root: apt-get install ")
    assert f"setup:   {COMPILER}" in result.stderr.splitlines()
    assert set(message.split()) >= MISSING[kind]
    assert not (cache / "scpatch" / "venv").exists()


NO_FOLDER = "/dev/null"
"""A path below which not even root can write files."""


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("name", ["setup.sh", "demo.sh"])
def test_a_home_that_cannot_be_written(name: str, variable: str) -> None:
    """The message is plain and has a remedy; it is not the shell's."""
    settings = {"XDG_CACHE_HOME": None} | {variable: NO_FOLDER}
    result = script(name, *(["demo"] if name == "setup.sh" else []), **settings)
    assert result.returncode == 1
    where = f"{NO_FOLDER}/.cache/scpatch" if variable == "HOME" else f"{NO_FOLDER}/scpatch"
    assert result.stderr.splitlines() == [
        f"setup: cannot write to {where}, where the virtual environment is kept",
        "setup: set XDG_CACHE_HOME to a folder that you can write to",
    ]
    verdict = "\ndemo: FAILED: the set-up failed\n" if name == "demo.sh" else ""
    assert result.stdout == verdict


def test_a_cache_that_was_set_up_by_another_user(tmp_path: Path) -> None:
    """The folder is there; its lock cannot be opened, here as it is a folder itself."""
    (tmp_path / "scpatch" / "setup.lock").mkdir(parents=True)
    result = script("setup.sh", "demo", XDG_CACHE_HOME=str(tmp_path))
    assert result.returncode == 1
    assert f"cannot write to {tmp_path}/scpatch, " in result.stderr


def test_a_cache_that_is_named_from_here(fake: Path) -> None:
    """The scripts go elsewhere before they use what setup.sh prints."""
    relative = os.path.relpath(fake)
    result = script("setup.sh", "demo", XDG_CACHE_HOME=relative)
    assert Path(result.stdout.strip()) == fake / "scpatch" / "venv" / "bin"


def test_set_up_wants_to_know_for_what() -> None:
    assert script("setup.sh").returncode == 2
