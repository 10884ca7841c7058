"""Stopped, killed, or out of room in the middle of writing: the old file stays whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from tests.test_output import copy, names
from tests.tools import ROOT, rewrite, rewritten, run


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """A copy of an object with call sites, in a folder of its own."""
    folder = tmp_path / "objects"
    folder.mkdir()
    return copy(folder / "sites.o")


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """What the rewritten object is."""
    return rewritten(copy(tmp_path / "expected.o")).read_bytes()


_SLOW = """
import os, sys, time
from pathlib import Path
real = os.copy_file_range
def slow(*arguments):
    print("copying", flush=True)
    time.sleep({seconds})
    return real(*arguments)
os.copy_file_range = slow
sys.argv = ["scpatch", "rewrite", "--keep-going", sys.argv[1]]
from scpatch.__main__ import main
main()
"""


def start_slowly(path: Path, seconds: float = 60) -> subprocess.Popen[str]:
    """`scpatch rewrite PATH`, stopped in the middle of the copy."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW.format(seconds=seconds), str(path)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "copying\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stopped_by_a_signal(sites: Path, number: signal.Signals) -> None:
    before = sites.read_bytes()
    process = start_slowly(sites)
    assert len(names(sites)) == 2
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert sites.read_bytes() == before
    assert names(sites) == ["sites.o"]


def test_killed(sites: Path, expected: bytes) -> None:
    """What was half written stays behind under its own name, and is in nobody's way."""
    before = sites.read_bytes()
    process = start_slowly(sites)
    process.kill()
    process.communicate(timeout=20)
    assert sites.read_bytes() == before
    leftover, name = names(sites)
    assert name == "sites.o"
    assert re.fullmatch(r"\.sites\.o\.\w+\.scpatch", leftover)
    rewrite(sites)
    assert sites.read_bytes() == expected


def test_two_runs_at_once(sites: Path, expected: bytes) -> None:
    first, second = start_slowly(sites, 0.05), start_slowly(sites, 0.05)
    for process in (first, second):
        process.communicate(timeout=30)
    assert sites.read_bytes() == expected
    assert names(sites) == ["sites.o"]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with no room for a rewritten copy of the object on it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = run("mount", "-t", "tmpfs", "-o", "size=32k", "none", folder, check=False)
    if done.returncode:
        # Not allowed here: a limit on the size of files has the same effect on one file.
        yield folder
        return
    yield folder
    run("umount", "--lazy", folder)


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
sys.argv = ["scpatch", "rewrite", "--keep-going", sys.argv[1]]
from scpatch.__main__ import main
main()
"""


def test_a_full_disk(full_disk: Path) -> None:
    path = copy(full_disk / "sites.o")
    before = path.read_bytes()
    limited = not os.path.ismount(full_disk)
    if not limited:
        (full_disk / "filler").write_bytes(bytes(24 * 1024 - len(before) // 4096 * 4096))
        with pytest.raises(ScpatchError, match="cannot write: No space left on device") as caught:
            rewrite(path)
        assert caught.value.code == "SCP110"
    done = run(sys.executable, "-c", _LIMITED, path, check=False)
    assert done.returncode == 1
    assert "cannot write: " in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before
    assert not list(full_disk.glob(".*"))
