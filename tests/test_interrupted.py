"""Stopped, killed, or out of room in the middle of writing: the old file stays whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.files.test_output import copy, names
from tests.tools import FIXTURES, ROOT, rewritten, run


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """A copy of an object with call sites, in a separate folder."""
    folder = tmp_path / "objects"
    folder.mkdir()
    return copy(folder / "sites.o")


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """What the rewritten object is."""
    return rewritten(copy(tmp_path / "expected.o")).read_bytes()


_STOPPED = """
import os, sys
from pathlib import Path
from scpatch.files import output
if {named}:
    output._DESCRIPTORS = Path("/no/proc")
real = os.copy_file_range
def stopped(*arguments):
    print("copying", flush=True)
    sys.stdin.readline()
    return real(*arguments)
os.copy_file_range = stopped
sys.argv = ["scpatch", "rewrite", "--keep-going", sys.argv[1]]
from scpatch.__main__ import main
main()
"""


def _as_in_a_terminal() -> None:
    """Tests may run with signals ignored (nohup, a shell's background), which children inherit."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start_stopped(path: Path, *, named: bool = False) -> subprocess.Popen[str]:
    """`scpatch rewrite PATH`, in the middle of the copy, until its standard input is closed; with
    `named`, as on a system whose new files must have names."""
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED.format(named=named), str(path)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_as_in_a_terminal,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "copying\n"
    return process


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stopped_by_a_signal(sites: Path, number: signal.Signals, named: bool) -> None:
    before = sites.read_bytes()
    process = start_stopped(sites, named=named)
    assert len(names(sites)) == 1 + named
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == -number
    assert (output, errors) == ("", "")
    assert sites.read_bytes() == before
    assert names(sites) == ["sites.o"]


def test_two_runs_at_once(sites: Path, expected: bytes) -> None:
    """Both have read the old file before either has written the new file."""
    first, second = start_stopped(sites), start_stopped(sites)
    for process in (first, second):
        process.communicate(timeout=30)
    assert sites.read_bytes() == expected
    assert names(sites) == ["sites.o"]


_FULL = """
mount -t tmpfs -o size=12k none "$1" || exit 77
cp "$2" "$1/sites.o"
"$3" -m scpatch rewrite --keep-going "$1/sites.o"
echo "exit $?"
cmp "$2" "$1/sites.o" && ls -A "$1"
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """On a file system of three pages; or, where none can be mounted, within a limit on files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command: list[str | Path] = ["sh", "-c", _FULL, "sh", folder, FIXTURES / "sites.o"]
    # In a separate mount namespace, so that no mount is left.
    done = run("unshare", "--mount", *command, sys.executable, cwd=ROOT, check=False)
    if "exit" in done.stdout:
        assert done.stdout.split("\n") == ["exit 1", "sites.o", ""]
        assert "cannot write: No space left on device" in done.stderr
        assert "Traceback" not in done.stderr


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
sys.argv = ["scpatch", "rewrite", "--keep-going", sys.argv[1]]
from scpatch.__main__ import main
main()
"""


def test_a_limit_on_the_size_of_files(sites: Path) -> None:
    before = sites.read_bytes()
    done = run(sys.executable, "-c", _LIMITED, sites, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "cannot write: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert sites.read_bytes() == before
    assert names(sites) == ["sites.o"]
