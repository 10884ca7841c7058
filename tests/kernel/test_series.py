"""The patch series on the real kernel: it applies, and its style is the kernel's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import tools
from tests.fixtures.test_series import git_am, series
from tests.kernel.linux import Linux
from tests.kernel.source import pristine_tree
from tests.kernel.store import folder, locked

_CHANGED = re.compile(r"^--- a/(.*)$", re.MULTILINE)


def too_old(linux: Linux) -> str:
    """Why the series is not for a kernel."""
    is_old = tuple(map(int, linux.version.split("."))) < (7, 3)
    return "the series is for Linux 7.3" if is_old else ""


pytestmark = pytest.mark.unless.with_args(too_old)


@pytest.fixture
def pristine(linux: Linux) -> Path:
    with locked(folder() / "lock"):
        return pristine_tree(linux)


def test_git_applies_it(pristine: Path, tmp_path: Path) -> None:
    """To a checkout of the files that it changes."""
    _, *patches = series(pristine, tmp_path / "out")
    names = {name for patch in patches for name in _CHANGED.findall(patch.read_text())}
    assert "arch/powerpc/Kconfig" in names
    for name in names:
        copy = tmp_path / "checkout" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((pristine / name).read_bytes())
    git_am(patches, tmp_path / "checkout")


def test_checkpatch_says_nothing(pristine: Path, tmp_path: Path) -> None:
    """Neither an error, nor a warning, nor one of the checks that `--strict` adds."""
    for patch in series(pristine, tmp_path / "out"):
        words = ("perl", "scripts/checkpatch.pl", "--strict", "--quiet")
        done = tools.run(*words, patch, cwd=pristine, check=False)
        assert (done.returncode, done.stdout) == (0, "")


def test_the_checks_after_the_link_never_run(pristine: Path, tmp_path: Path) -> None:
    """docs/upstream.md reports it: Makefile.postlink has no rule for the link's target."""
    (tmp_path / "include" / "config").mkdir(parents=True)
    (tmp_path / "include" / "config" / "auto.conf").write_text("CONFIG_PPC64=y\n")
    makefile = pristine / "arch/powerpc/Makefile.postlink"
    said = {}
    for target in ("vmlinux", "vmlinux.unstripped"):
        (tmp_path / target).touch()
        words = ("make", "-n", "-f", makefile, f"srctree={pristine}", target)
        said[target] = tools.run(*words, cwd=tmp_path).stdout
    assert "head_check.sh" in said["vmlinux"]
    assert said["vmlinux.unstripped"] == "make: Nothing to be done for 'vmlinux.unstripped'.\n"
