"""Progress in a terminal, and silence everywhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scpatch.verifier.files import verify_files
from scpatch.verifier.phases import enter, listening
from scpatch.verifier.tools import find_tools
from tests.report.support import FIXTURES, ROOT, rewritten
from tests.terminal import run_in_terminal

SLOW = """
import time
from scpatch.report import progress
progress.PATIENCE = 0.2
with progress.progress("planning", quiet={quiet}) as phase:
    time.sleep({seconds})
    phase("proving", 3, 10)
    time.sleep({seconds})
with progress.progress_bar(3, "scanning", quiet={quiet}) as step:
    for file in range(3):
        time.sleep({seconds})
        step(file)
with progress.progress_bar(1, "reading", "writing", quiet={quiet}) as step:
    time.sleep({seconds})
    step(1)
    time.sleep({seconds})
print("report")
"""


def in_terminal(seconds: float, *, quiet: bool = False, term: str = "xterm") -> str:
    """What a terminal shows of slow work."""
    return terminal_of(SLOW.format(seconds=seconds, quiet=quiet), term)


def terminal_of(script: str, term: str = "xterm") -> str:
    environ = os.environ | {"TERM": term, "COLUMNS": "80", "NO_COLOR": "1"}
    code, printed = run_in_terminal([sys.executable, "-c", script], ROOT, environ)
    assert code == 0
    return printed


def test_a_terminal_shows_the_phase_after_a_while() -> None:
    shown = in_terminal(1.0)
    for text in ("planning", "proving  3/10", "scanning  1/3", "reading", "writing", "0:00:01"):
        assert text in shown
    assert "0/1" not in shown
    # At the end the line is gone, and the report begins at its start.
    assert shown.endswith(("\x1b[2K\rreport\r\n", "\x1b[2Kreport\r\n"))


@pytest.mark.parametrize(
    ("seconds", "quiet", "term"),
    [(0.01, False, "xterm"), (1.0, True, "xterm"), (1.0, False, "dumb")],
)
def test_nothing_is_drawn(seconds: float, quiet: bool, term: str) -> None:
    assert in_terminal(seconds, quiet=quiet, term=term) == "report\r\n"


def test_a_pipe_gets_nothing_and_no_thread_starts() -> None:
    script = SLOW.format(seconds=0.5, quiet=False)
    script += "import sys\nassert 'threading' not in sys.modules and 'rich' not in sys.modules"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = ['.']\n{script}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "report\n", "")


def test_a_report_ends_it(tmp_path: Path) -> None:
    """Messages go above the line; with a report there is none any more."""
    script = """
import sys, time
from scpatch.report import progress
progress.PATIENCE = 0.2
with progress.progress("planning") as phase:
    time.sleep(1.5)
    print("message", file=sys.stderr)
    progress.end_progress()
    print("report", flush=True)
    phase("writing", 0, 0)
    time.sleep(0.5)
"""
    shown = terminal_of(script)
    before, after = shown.split("message", 1)
    assert "planning" in before
    assert after.endswith("report\r\n")
    assert "writing" not in shown


def test_verify_says_each_phase(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with listening(lambda *phase: told.append(phase)):
        after = rewritten("calls-gcc.o", tmp_path)
        verify_files(FIXTURES / "calls-gcc.o", after, tools=find_tools())
    assert [name for name, _, _ in told if name != "proving"] == [
        "reading the objects",
        "disassembling",
        "finding the calls",
        "comparing all other contents",
        "reading the files with another library",
        *(["linking a program of the calls", "executing"] * 2),
    ]
    assert [done for name, done, total in told if name == "proving"] == list(range(13))
    assert {total for name, _, total in told if name in ("proving", "executing")} == {13}
    enter("nobody listens")
    assert told[-1][0] == "executing"
