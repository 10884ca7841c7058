"""SIGKILL at any moment: each file is old or new, and whole; nothing is left over.

SCPATCH_KILLS=500 kills that many whole runs instead of a few.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.files import output
from scpatch.rewriter import Options, plan_file, write
from tests import archives
from tests.faults.support import Call, Files, calls_of, kill_at, make_files, start, traced
from tests.tools import FIXTURES, ROOT

_RUNS = int(os.environ.get("SCPATCH_KILLS", "10"))
_WRITES = 60


def between_names(calls: list[Call]) -> set[Call]:
    """The calls from behind the first that gives a name to a new file, up to the one that puts the
    last file in place. A process that is killed before one of them may leave hidden names."""
    names = [call.name for call in calls]
    first = names.index("linkat")
    last = max(i for i, name in enumerate(names) if name.startswith("rename"))
    return set(calls[first + 1 : last + 1])


@pytest.mark.parametrize(
    ("names", "backup"), [(["sites.o"], False), (["sites.o", "calls-gcc.o"], True)]
)
def test_at_every_system_call(tmp_path: Path, names: list[str], backup: bool) -> None:
    def fresh(number: int) -> Files:
        return make_files(tmp_path / str(number), *names, backup=backup)

    first = fresh(0)
    calls = calls_of(first.write, tmp_path / "log")
    assert first.check() == set()
    assert {"linkat", "rename", "fsync", "copy_file_range"} <= {call.name for call in calls}
    instant = between_names(calls)
    killed, left = 0, 0
    for number, call in enumerate(calls, 1):
        files = fresh(number)
        status = traced(files.write, tmp_path / "log", *kill_at(call))
        assert status in (-signal.SIGKILL, 0)
        killed += status != 0
        others = files.check()
        assert not others or call in instant, (call, others)
        left += len(others)
    assert killed >= len(calls) * 9 // 10
    print(
        f"{len(calls)} system calls, {killed} kills, {left} files left, {len(instant)} in between"
    )


def test_a_thin_archive_and_a_folder_of_copies(tmp_path: Path) -> None:
    """Killed before every fourth system call: the archive is there if and only if all of it is."""

    def fresh(number: int) -> Path:
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("sites.o", "calls-gcc.o"):
            shutil.copy(FIXTURES / name, folder)
        archives.thin(folder, "sites.o", "calls-gcc.o")
        return folder

    def action(folder: Path) -> Callable[[], None]:
        plan = plan_file(folder / "x.a", Options(), folder / "new.a")
        return lambda: write([plan], allow_refused=True)

    whole = fresh(0)
    before = files_in(whole)
    calls = calls_of(action(whole), tmp_path / "log")
    after = files_in(whole)
    assert len(after) == len(before) + 3
    mkdir = next(i for i, call in enumerate(calls) if call.name == "mkdir")
    instant = between_names(calls) | set(calls[mkdir:])
    for number, call in enumerate(calls[::4], 1):
        folder = fresh(number)
        assert traced(action(folder), tmp_path / "log", *kill_at(call)) in (-signal.SIGKILL, 0)
        found = files_in(folder)
        if call not in instant:
            assert found == before, call
            assert not (folder / "new.a.members").exists()
        elif "new.a" in found:
            assert found == after, call


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_at_random_moments_of_a_write(tmp_path: Path) -> None:
    """One in so many may hit the instant between two system calls that leaves a name."""
    files = make_files(tmp_path / "whole", "sites.o")
    begin = time.monotonic()
    os.waitpid(start(files.write), 0)
    duration = time.monotonic() - begin
    moments = random.Random(1)
    left = 0
    for number in range(_WRITES):
        files = make_files(tmp_path / str(number), "sites.o")
        child = start(files.write)
        time.sleep(moments.uniform(0, duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left += len(files.check())
    assert left <= 1
    print(f"{_WRITES} kills of a write, {left} files left")


def test_at_random_moments_of_a_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scpatch", "rewrite", "--quiet", "--keep-going", "sites.o"]
    files = make_files(tmp_path / "whole", "sites.o")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begin = time.monotonic()
    subprocess.run(command, cwd=files.folder, env=environment, check=True)
    duration = time.monotonic() - begin
    moments = random.Random(_RUNS)
    left, killed = 0, 0
    for number in range(_RUNS):
        files = make_files(tmp_path / str(number), "sites.o")
        with subprocess.Popen(command, cwd=files.folder, env=environment) as process:
            time.sleep(moments.uniform(0, duration * 1.1))
            process.kill()
        killed += process.returncode != 0
        left += len(files.check())
    assert killed > 0
    assert left <= 1
    print(f"{_RUNS} runs, {killed} killed, {left} files left")


def test_with_names_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files must have names, what is half written stays under a hidden one, in nobody's
    way."""
    monkeypatch.setattr(output, "_DESCRIPTORS", tmp_path / "no-proc")
    files = make_files(tmp_path / "whole", "sites.o")
    calls = calls_of(files.write, tmp_path / "log")
    (fsync,) = [call for call in calls if call.name == "fsync"]
    files = make_files(tmp_path / "killed", "sites.o")
    assert traced(files.write, tmp_path / "log", *kill_at(fsync)) == -signal.SIGKILL
    (left,) = files.check()
    assert left.startswith(".sites.o.")
    assert files.are_old()
    files.write()
    assert (files.folder / "sites.o").read_bytes() == files.new["sites.o"]
    assert files.check() == {left}
    assert (FIXTURES / "sites.o").read_bytes() == files.old["sites.o"]
