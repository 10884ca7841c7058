"""Standard streams that are full, closed or gone: one message or none, and the right exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import FIXTURES, ROOT, rewritten

COMMANDS = (
    "--version",
    "--help",
    "explain",
    "explain SCP203",
    "kbuild --help",
    "scan --format text before.o",
    "scan --format plain before.o",
    "scan --format json before.o",
    "rewrite --dry-run --diff before.o",
    "rewrite --dry-run --format text before.o",
    "rewrite --dry-run --format plain before.o",
    "rewrite --dry-run --format json before.o",
    "diff --format text before.o after.o",
    "diff --format plain before.o after.o",
    "diff --format json before.o after.o",
    "verify --no-run --verbose --format text before.o after.o",
    "verify --no-run --format plain before.o after.o",
    "verify --no-run --format json before.o after.o",
    "advise --format text before.o",
    "advise --format plain before.o",
    "advise --format json before.o",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With before.o, and with after.o, which is that rewritten."""
    before = tmp_path / "before.o"
    before.write_bytes((FIXTURES / "calls-gcc.o").read_bytes())
    rewritten(before).rename(tmp_path / "after.o")
    return tmp_path


def scpatch(
    command: str, folder: Path, redirection: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Runs `scpatch COMMAND` with the shell's redirection."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m scpatch {command} {redirection}', sys.executable],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", **changes},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_behind_stdout(folder: Path, command: str) -> None:
    done = scpatch(command, folder, ">/dev/full")
    assert done.returncode == (
        1 if command.startswith(("rewrite", "explain", "kbuild", "-")) else 2
    )
    message = "scpatch: error: stdout: cannot write the report: No space left on device [SCP136]\n"
    assert message in done.stderr
    assert done.stderr.count("scpatch: error: stdout") == 1
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert len(list(folder.iterdir())) == 2


def test_what_is_buffered_nowhere(folder: Path) -> None:
    done = scpatch("scan before.o", folder, ">/dev/full", PYTHONUNBUFFERED="1")
    assert done.returncode == 2
    assert "[SCP136]" in done.stderr


@pytest.mark.parametrize("diff", [False, True])
def test_whether_the_report_comes_before_the_writing(folder: Path, diff: bool) -> None:
    """A diff is shown of what is about to be there; a report says what has been done."""
    options = "--diff" if diff else "--format plain"
    done = scpatch(f"rewrite {options} before.o", folder, ">/dev/full")
    assert done.returncode == 1
    same = (folder / "before.o").read_bytes() == (FIXTURES / "calls-gcc.o").read_bytes()
    assert same is diff
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "command",
    ["--help", "scan before.o", "scan --format json before.o", "diff before.o after.o"],
)
def test_a_reader_that_has_gone(folder: Path, command: str) -> None:
    """It ends as any program does, by SIGPIPE, and says nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "scpatch", *command.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        stdout=writing,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(writing)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (-signal.SIGPIPE, b"")


def test_a_closed_stdout(folder: Path) -> None:
    """No file gets its number: what is printed would go there."""
    done = scpatch("rewrite --format json --backup before.o", folder, ">&-")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("before.o: 13 call sites rewritten")
    assert (folder / "before.o").read_bytes() == (folder / "after.o").read_bytes()


def test_a_closed_or_full_stderr(folder: Path) -> None:
    done = scpatch("rewrite --format plain before.o", folder, "2>&-")
    assert done.returncode == 0
    assert done.stdout.startswith("site\tbefore.o\t")
    assert (folder / "before.o").read_bytes() == (folder / "after.o").read_bytes()
    assert scpatch("rewrite before.o", folder, "2>/dev/full").returncode == 1
    assert scpatch("scan missing.o", folder, "2>/dev/full").returncode == 2


def test_an_error_for_a_reader_that_has_gone(folder: Path) -> None:
    """The report of one file is buffered when the message about the other is printed."""
    done = scpatch("scan --format plain before.o missing.o", folder, "| : ")
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "missing.o: cannot read: No such file or directory [SCP109]" in done.stderr
