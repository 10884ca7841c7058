"""Long reports in a terminal, with pagers of many kinds; the command runs as a user's does."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.report.support import FIXTURES, ROOT, rewritten
from tests.terminal import run_in_terminal

REFUSED = str(FIXTURES / "refused.o")
SCAN = ("scan", REFUSED)
TWO = (str(FIXTURES / "calls-gcc.o"), str(FIXTURES / "calls-clang.o"))


def in_terminal(*arguments: str, rows: int = 10, **environ: str) -> tuple[int, str]:
    """The exit code of scpatch, and what a terminal of 80 columns shows."""
    base = {k: v for k, v in os.environ.items() if k not in ("PAGER", "LESS", "COLUMNS", "LINES")}
    environ = {**base, "TERM": "xterm-256color", **environ}
    words = [sys.executable, "-m", "scpatch", *map(str, arguments)]
    code, printed = run_in_terminal(words, ROOT, environ, rows=rows, reads=True)
    return code, printed.replace("\r\n", "\n")


def recorder(folder: Path) -> tuple[str, Path]:
    """A pager that keeps what it gets, and `LESS`, in a file."""
    seen = folder / "seen"
    return f"{{ echo LESS=$LESS; cat; }} >{seen}", seen


def test_a_long_report_goes_to_the_pager_with_its_colours(tmp_path: Path) -> None:
    pager, seen = recorder(tmp_path)
    code, shown = in_terminal(*SCAN, PAGER=f"sh -c '{pager}'")
    assert (code, shown) == (0, "")
    first, *lines = seen.read_text().splitlines()
    assert first == "LESS=FRX"
    assert lines[0].startswith("\x1b[1m")
    code, direct = in_terminal(*SCAN, "--no-pager")
    assert direct.splitlines() == lines


def test_the_pager_of_scpatch_comes_first(tmp_path: Path) -> None:
    pager, seen = recorder(tmp_path)
    code, shown = in_terminal(*SCAN, PAGER="false", SCPATCH_PAGER=f"sh -c '{pager}'", LESS="R")
    assert (code, shown) == (0, "")
    assert seen.read_text().startswith("LESS=R\n")


@pytest.mark.parametrize(
    ("rows", "environ"),
    [
        (60, {"PAGER": "false"}),
        (10, {"PAGER": ""}),
        (10, {"PAGER": "cat"}),
        (10, {"PAGER": "false", "SCPATCH_PAGER": "cat"}),
        (10, {"PAGER": "false", "TERM": "dumb"}),
    ],
)
def test_no_pager_starts(rows: int, environ: dict[str, str]) -> None:
    code, shown = in_terminal(*SCAN, rows=rows, NO_COLOR="1", **environ)
    assert code == 0
    assert shown.startswith(f"{REFUSED}: object")
    assert shown.endswith("the code says why\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_pipe_gets_no_pager(form: str) -> None:
    command = [sys.executable, "-m", "scpatch", *SCAN, "--format", form]
    environ = os.environ | {"PAGER": "false", "TERM": "xterm"}
    result = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert REFUSED in result.stdout


@pytest.mark.parametrize("pager", ["true", "head -n1", "sh -c 'kill -9 $$'", "exit 3"])
def test_the_exit_code_is_kept_when_the_pager_ends_early(pager: str, tmp_path: Path) -> None:
    after = rewritten("calls-gcc.o", tmp_path)
    before = str(FIXTURES / "calls-gcc.o")
    for arguments, expected in (
        (("diff", "-U", "1000", before, str(after)), 1),
        (("verify", "--no-run", before, before), 1),
        (SCAN, 0),
    ):
        code, shown = in_terminal(*arguments, SCPATCH_PAGER=pager)
        assert code == expected, shown
        assert "Traceback" not in shown


def test_a_missing_pager_is_said_and_the_report_printed() -> None:
    code, shown = in_terminal(*SCAN, PAGER="X=1 no-such-pager -R", NO_COLOR="1")
    assert code == 0
    first, report = shown.split("\n", 1)
    assert first == "scpatch: warning: there is no pager 'no-such-pager'"
    assert report.startswith(f"{REFUSED}: object")


def test_less_gets_the_colours() -> None:
    """The real one. -E leaves it at the end, and +G goes there."""
    code, shown = in_terminal(*SCAN, PAGER="less -E +G", LESS="RX")
    assert code == 0
    assert "\x1b[1;38;5;160mrefused\x1b[0m" in shown
    assert "ESC[" not in shown


def test_ctrl_c_belongs_to_less_and_q_leaves_it() -> None:
    process, terminal = pty.fork()
    if not process:
        os.environ.update(TERM="xterm-256color", PAGER="less", LESS="RX")
        os.execv(sys.executable, [sys.executable, "-m", "scpatch", "diff", *TWO, "-U", "99"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 80, 0, 0))
    shown = b""
    for key in (b"\x03", b" ", b"\x03", b"q"):
        time.sleep(1)
        shown += os.read(terminal, 1 << 16)
        os.write(terminal, key)
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 1, shown
    assert b"Traceback" not in shown


def test_a_rewrite_does_not_wait_for_a_pager(tmp_path: Path) -> None:
    pager, seen = recorder(tmp_path)
    command = ("rewrite", "--diff", str(FIXTURES / "calls-gcc.o"), "-o", str(tmp_path / "out.o"))
    code, shown = in_terminal(*command, PAGER=f"sh -c '{pager}'")
    assert code == 0
    assert "stdu" in shown
    assert not seen.exists()
    code, shown = in_terminal(*command, "-n", PAGER=f"sh -c '{pager}'")
    assert code == 0
    assert "stdu" not in shown
    assert "stdu" in seen.read_text()
