"""scpatch-ld itself: what it passes through, and what it notices at the start of a make."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import scpatch
from tests.kbuild.support import FLAGS, SCRIPT, call, environment

FAKE = '#!/bin/sh\nprintf "%s\\n" "$#" "$@"\nexit 7\n'
PASSED = [
    ["--version"],
    ["-v", "--gc-sections"],
    [*FLAGS["bfd"], "-v"],
    [*FLAGS["bfd"], "-r", "-o", "fs/ext4/ext4.o", "@fs/ext4/ext4.mod"],
    [*FLAGS["lld"], "-r", "-o", "fs/ext4/ext4.o", "@fs/ext4/ext4.mod"],
    [*FLAGS["bfd"], "-r", "-o", "vmlinux.o", "--whole-archive", "vmlinux.a", "--no-whole-archive"],
    ["/tmp/a b.o", "-shared", "-Bsymbolic", "--use-android-relr-tags", "-o", "/tmp/it's"],
    ["-T", "arch/powerpc/kernel/vdso/vdso64.lds", "-o", "vdso64.so.dbg"],
    ["-T", "arch/powerpc/boot/zImage.lds", "-o", "zImage", "vmlinux.strip.gz"],
    ["", "*", "$HOME", "a\nb", "-x  y"],
]


@pytest.fixture
def fake(tmp_path: Path) -> str:
    """A linker that prints its arguments and exits with status 7."""
    path = tmp_path / "fake-ld"
    path.write_text(FAKE)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("arguments", PASSED, ids=lambda words: words[-1][:30])
@pytest.mark.parametrize("options", [[], ["--warn-only", "--trampoline=__SCT__*"]])
def test_a_call_passes_through_unchanged(
    tmp_path: Path, fake: str, arguments: list[str], options: list[str]
) -> None:
    """Even without Python: the shell script decides."""
    env = {"SCPATCH_PYTHON": "/bin/false"}
    done = call(tmp_path, arguments, linker=fake, options=options, env=env)
    expected = "".join(f"{word}\n" for word in (len(arguments), *arguments))
    assert (done.returncode, done.stdout, done.stderr) == (7, expected, "")


@pytest.mark.parametrize("words", [[], ["--warn-only"]])
def test_a_missing_linker_is_a_usage_error(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        [SCRIPT, *words], cwd=tmp_path, env=environment(), text=True, capture_output=True
    )
    assert done.returncode == 2
    assert "usage: scpatch-ld" in done.stderr


def test_the_script_has_the_version_of_the_package() -> None:
    assert f"version={scpatch.__version__}\n" in SCRIPT.read_text()


def _built(root: Path) -> list[Path]:
    """An object tree with saved commands, of links and of others."""
    (root / "include/config").mkdir(parents=True)
    (root / "include/config/auto.conf").write_text("")
    (root / "fs").mkdir()
    saved = [root / ".vmlinux.cmd", root / "fs/.ext4.ko.cmd", root / "fs/.super.o.cmd"]
    for path in saved:
        path.write_text("cmd")
    return saved


def _probe(root: Path, fake: str, **env: str) -> None:
    assert call(root, [*FLAGS["bfd"], "-v"], linker=fake, env=env).returncode == 7


def test_other_flags_or_another_version_drop_the_saved_commands_of_links(
    tmp_path: Path, fake: str
) -> None:
    vmlinux, module, other = _built(tmp_path)
    _probe(tmp_path, fake)
    _probe(tmp_path, fake)
    assert vmlinux.exists()
    assert module.exists()
    _probe(tmp_path, fake, SCPATCH_FLAGS="--warn-only")
    assert not vmlinux.exists()
    assert not module.exists()
    assert other.exists()
    vmlinux.write_text("cmd")
    _probe(tmp_path, fake, SCPATCH_FLAGS="--warn-only")
    assert vmlinux.exists()
    stamp = tmp_path / ".tmp_scpatch"
    stamp.write_text(stamp.read_text().replace(scpatch.__version__, "0.0.1"))
    _probe(tmp_path, fake, SCPATCH_FLAGS="--warn-only")
    assert not vmlinux.exists()


def test_a_module_outside_the_tree_has_its_own_stamp(tmp_path: Path, fake: str) -> None:
    vmlinux, *_ = _built(tmp_path / "kernel")
    _, module, _ = _built(tmp_path / "outside")
    for flags in ("", "--warn-only"):
        outside = str(tmp_path / "outside")
        _probe(tmp_path / "kernel", fake, KBUILD_EXTMOD=outside, SCPATCH_FLAGS=flags)
    assert vmlinux.exists()
    assert not module.exists()
    assert not (tmp_path / "kernel/.tmp_scpatch").exists()


def test_nothing_is_written_outside_an_object_tree(tmp_path: Path, fake: str) -> None:
    before = sorted(tmp_path.iterdir())
    _probe(tmp_path, fake)
    assert sorted(tmp_path.iterdir()) == before
