"""What waits for the disk: by default only what replaces its own source."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.files import filling, output
from scpatch.rewriter import Options, plan_file, write
from tests.kbuild.support import SCRIPT, make_tree, module_arguments
from tests.tools import FIXTURES, LD, run

SYNC = re.compile(r"f(?:data)?sync\(\d+<(.*?)>")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "sites.o"
    path.parent.mkdir()
    path.write_bytes((FIXTURES / "sites.o").read_bytes())
    return path


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced, in order: files by their sizes, folders by their names."""
    seen: list[str] = []

    def note(real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            seen.append(path.name if path.is_dir() else "file")
            real(descriptor)

        return call

    monkeypatch.setattr(os, "fsync", note(os.fsync))
    monkeypatch.setattr(os, "fdatasync", note(os.fdatasync))
    return seen


def to(source: Path, target: str, sync: bool | None) -> None:
    write([plan_file(source, Options(), source.parent.parent / target)], sync=sync)


def test_a_file_that_replaces_its_source(source: Path, synced: list[str]) -> None:
    write([plan_file(source, Options())])
    assert synced == ["file"]


@pytest.mark.parametrize("target", ["in/sites.o", "hard.o", "soft.o"])
def test_an_output_that_is_the_source(source: Path, synced: list[str], target: str) -> None:
    folder = source.parent.parent
    (folder / "hard.o").hardlink_to(source)
    (folder / "soft.o").symlink_to(source)
    to(source, target, None)
    assert synced == ["file"]


@pytest.mark.parametrize("exists", [False, True])
def test_another_output(source: Path, synced: list[str], exists: bool) -> None:
    target = source.parent.parent / "out.o"
    if exists:
        target.write_bytes(b"old")
    to(source, "out.o", None)
    assert synced == []


@pytest.mark.parametrize(
    ("exists", "sync", "expected"),
    [
        (False, None, []),
        (True, None, ["file"]),
        (True, False, []),
        (False, True, ["file", "new"]),
    ],
)
def test_content_that_comes_from_no_file(
    tmp_path: Path, synced: list[str], exists: bool, sync: bool | None, expected: list[str]
) -> None:
    path = tmp_path / "new" / "out.o"
    path.parent.mkdir()
    if exists:
        path.write_bytes(b"old")
    output.write_content(path, b"content", sync=sync)
    assert (synced, path.read_bytes()) == (expected, b"content")


@pytest.mark.parametrize(("options", "files"), [([], 1), (["--no-sync"], 0)])
def test_stdin_that_replaces_a_file(source: Path, options: list[str], files: int) -> None:
    log, new = source.with_name("strace.log"), source.with_name("out.o")
    new.write_bytes(b"old")
    command = [sys.executable, "-m", "scpatch", "rewrite", "-", "-o", str(new), *options]
    trace = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", str(log), *command]
    content = (FIXTURES / "calls-gcc.o").read_bytes()
    subprocess.run(trace, input=content, check=True, capture_output=True)
    assert len(SYNC.findall(log.read_text())) == files
    assert new.read_bytes() != b"old"


@pytest.mark.parametrize("size", [0, filling._BACKGROUND_SYNC])
def test_without_sync(
    source: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(filling, "_BACKGROUND_SYNC", size)
    write([plan_file(source, Options())], sync=False)
    assert synced == []


@pytest.mark.parametrize("named", [False, True])
def test_with_sync_the_name_is_on_the_disk_too(
    source: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    if named:
        monkeypatch.setattr(output, "_DESCRIPTORS", source / "no-proc")
    out = source.parent.parent / "new"
    out.mkdir()
    to(source, "new/out.o", True)
    assert synced == ["file", "new"]


def traced(*command: str | Path, cwd: Path) -> list[str]:
    """The names of what a command syncs, as strace sees it."""
    log = cwd / "strace.log"
    run("strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", log, *command, cwd=cwd)
    return [Path(name).name for name in SYNC.findall(log.read_text())]


@pytest.mark.parametrize(
    ("options", "synced"),
    [
        ([], 1),
        (["--no-sync"], 0),
        (["--sync"], 2),
        (["-o", "out.o"], 0),
        (["-o", "out.o", "--sync"], 2),
        (["-o", "out.o", "--sync", "--no-sync"], 0),
    ],
)
def test_the_command(source: Path, options: list[str], synced: int) -> None:
    command = (sys.executable, "-m", "scpatch", "rewrite", "sites.o", *options)
    assert len(traced(*command, cwd=source.parent)) == synced


@pytest.mark.parametrize(("flags", "synced"), [([], 0), (["--sync"], 2)])
def test_a_link_of_a_build(tmp_path: Path, flags: list[str], synced: int) -> None:
    tree = make_tree(tmp_path / "tree")
    python = f"SCPATCH_PYTHON={sys.executable}"
    names = traced("env", python, SCRIPT, *flags, LD, *module_arguments(), cwd=tree)
    assert len(names) == synced
    assert not names or names[-1] == "fs"
    assert (tree / "fs/fs.ko").exists()
