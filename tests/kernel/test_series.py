"""The patch series on the real kernel: it applies, and its style is the kernel's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import tools
from tests.fixtures.test_series import git_am, series
from tests.kernel.boot import Log, boot
from tests.kernel.build import Kernel, check_config, check_warnings, user_space
from tests.kernel.cases import AT_SITES, CASES, cases
from tests.kernel.linux import Linux
from tests.kernel.make import TESTS, make
from tests.kernel.source import KERNEL, pristine_tree
from tests.kernel.store import folder, locked
from tests.kernel.test_at_sites import selftest
from tests.kernel.variants import NAIVE, SERIES, SERIES_AT_SITES, Variant

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


@dataclass(frozen=True)
class Tree:
    """A source tree that the patches are applied to, and that is built in place."""

    linux: Linux
    path: Path
    scratch: Path

    def apply(self, patch: Path) -> None:
        """As git does in a folder that is no repository."""
        words = ("env", f"GIT_CEILING_DIRECTORIES={self.path.parent}", "git", "apply", patch)
        tools.run(*words, cwd=self.path)

    def configure(self, variant: Variant, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
        """The configuration, which `make olddefconfig` does not change."""
        asked = self.scratch / "asked.config"
        asked.write_text(text)
        with monkeypatch.context() as patched:
            patched.setenv("KCONFIG_ALLCONFIG", str(asked))
            make(self.linux, self.path, variant, self.scratch / "config.log", "allnoconfig")
        chosen = (self.path / ".config").read_text()
        make(self.linux, self.path, variant, self.scratch / "config.log", "olddefconfig")
        assert (self.path / ".config").read_text() == chosen
        return chosen

    def build(self, variant: Variant, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.configure(variant, text, monkeypatch)
        check_config(self.path, text.splitlines(), self.path)
        log = self.scratch / "make.log"
        check_warnings(make(self.linux, self.path, variant, log, "vmlinux", "modules"), log)

    def add_tests(self) -> None:
        """The hand-made tests, which the series does not have."""
        (self.path / TESTS).mkdir()
        source = KERNEL / "overlay" / TESTS
        for path in source.glob("sct_*"):
            shutil.copy(path, self.path / TESTS)
        header = "arch/powerpc/include/asm/static_call_patch_64.h"
        shutil.copy(KERNEL / "overlay" / header, self.path / header)
        lines = (source / "Makefile").read_text().splitlines(keepends=True)
        kept = "".join(line for line in lines if "static_call_test_64" not in line)
        (self.path / TESTS / "Makefile").write_text(kept)
        first, _, _ = (source / "Kconfig").read_text().partition("\nconfig STATIC_CALL_AT_SITES")
        (self.path / TESTS / "Kconfig").write_text(first)
        self.append("arch/powerpc/Kconfig", f'source "{TESTS}/Kconfig"\n')
        self.append(
            "arch/powerpc/Kbuild", "obj-$(CONFIG_STATIC_CALL_TOC_TEST) += static_call_test/\n"
        )

    def append(self, name: str, line: str) -> None:
        """The file may be a hard link."""
        text = (self.path / name).read_text()
        (self.path / name).unlink()
        (self.path / name).write_text(text + line)

    def boot(self, variant: Variant, *steps: str) -> Log:
        modules = tuple(sorted(self.path.glob("arch/powerpc/**/*.ko")))
        init = user_space(self.linux, variant)
        kernel = Kernel(self.path / "vmlinux", modules, init)
        return boot(kernel, steps, self.scratch, debug=True)


def _config(*names: str, without: tuple[str, ...] = ()) -> str:
    """Files of fixtures/kernel, without the lines for some options."""
    lines = [line for name in names for line in (KERNEL / name).read_text().splitlines(True)]
    return "".join(line for line in lines if not any(option in line for option in without))


_HAND_MADE = "CONFIG_STATIC_CALL_TOC_TEST"
_KUNIT = "CONFIG_PPC64_STATIC_CALL_KUNIT_TEST"


@pytest.fixture
def tree(linux: Linux, pristine: Path, tmp_path: Path) -> Iterator[Tree]:
    path = linux.folder / "series"
    with locked(folder() / "lock"):
        shutil.rmtree(path, ignore_errors=True)
        tools.run("cp", "-al", pristine, path)
        yield Tree(linux, path, tmp_path)
        shutil.rmtree(path)


@pytest.mark.thorough
def test_each_patch_builds_and_the_last_kernels_pass_all_cases(
    tree: Tree, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cases are those of the KUnit test, and the hand-made ones in a patch on top."""
    _, trampolines, call_sites, kunit = series(pristine, tmp_path / "out")
    tree.apply(trampolines)
    tree.build(SERIES, _config("config", without=(_HAND_MADE, _KUNIT)), monkeypatch)
    tree.apply(call_sites)
    both = ("config", "config-at-sites")
    tree.build(SERIES_AT_SITES, _config(*both, without=(_HAND_MADE, _KUNIT)), monkeypatch)
    tree.apply(kunit)
    tree.build(SERIES_AT_SITES, _config(*both, without=(_HAND_MADE,)), monkeypatch)
    assert tree.boot(SERIES_AT_SITES, "kunit").faults(cases("kunit")) == []
    tree.add_tests()
    tree.build(SERIES_AT_SITES, _config(*both), monkeypatch)
    log = tree.boot(SERIES_AT_SITES, *AT_SITES)
    assert log.faults(cases(*AT_SITES)) == []
    assert selftest(log) == (True, 0)
    tree.build(SERIES, _config("config"), monkeypatch)
    steps = tuple(step for step in CASES if step != "stubs")
    assert tree.boot(SERIES, *steps).faults(cases(*steps)) == []


def test_static_calls_are_offered_where_no_call_loses_r2(
    tree: Tree, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a link without scpatch, only in a kernel without modules, or of pc-relative code."""
    for patch in series(pristine, tmp_path / "out")[1:]:
        tree.apply(patch)
    config = _config("config")
    bare = config.replace("CONFIG_MODULES=y", "# CONFIG_MODULES is not set")
    pcrel = config + _config("config-pcrel")
    offered = {
        (variant.name, name): "\nCONFIG_HAVE_STATIC_CALL=y\n"
        in tree.configure(variant, text, monkeypatch)
        for variant in (NAIVE, SERIES)
        for name, text in (("config", config), ("bare", bare), ("pcrel", pcrel))
    }
    assert offered == {
        ("naive", "config"): False,
        ("naive", "bare"): True,
        ("naive", "pcrel"): True,
        ("series", "config"): True,
        ("series", "bare"): True,
        ("series", "pcrel"): True,
    }
