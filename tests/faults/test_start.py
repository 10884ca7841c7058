"""Ctrl-C just after the start, packages that are missing, and faults of scpatch itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.tools import FIXTURES, ROOT, rewritten, run

_MOMENTS = int(os.environ.get("SCPATCH_KILLS", "8"))

_TRACE = ["strace", "-f", "-e", "trace=openat"]


def test_interrupted_while_it_starts(tmp_path: Path) -> None:
    """SIGINT when a file is opened, as each module is that is imported: it ends the process as it
    would end any other, without a word. SCPATCH_KILLS=1000 tries every one."""
    sites = FIXTURES / "sites.o"
    log = tmp_path / "log"
    program = [sys.executable, "-m", "scpatch", "scan", str(sites)]
    run(*_TRACE, "-o", log, *program, cwd=ROOT)
    opened = [line for line in log.read_text().splitlines() if "openat(" in line]
    # What the interpreter does before scpatch is there is not scpatch's.
    ours = [i for i, line in enumerate(opened) if re.search(r"scpatch/.*\bprogram\.", line)]
    first = ours[-1] + 1
    step = max(1, (len(opened) - first) // _MOMENTS)
    for number in range(first + 1, len(opened) + 1, step):
        options = ["-o", "/dev/null", "-e", f"inject=openat:signal=INT:when={number}"]
        done = subprocess.run(
            [*_TRACE, *options, *program],
            cwd=ROOT,
            text=True,
            capture_output=True,
            check=False,
            preexec_fn=_as_in_a_terminal,
        )
        assert (done.returncode, done.stderr) == (-signal.SIGINT, ""), opened[number - 1]


def _as_in_a_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def without(
    modules: Sequence[str], *arguments: str | Path, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """`scpatch ARGUMENT...` where Python does not find modules."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({list(modules)!r}))\n"
        "from scpatch.__main__ import main; sys.argv[0] = 'scpatch'; main()"
    )
    return run(sys.executable, "-c", code, *arguments, cwd=ROOT, check=check)


@pytest.mark.parametrize(
    ("module", "package", "command"),
    [
        ("elftools", "pyelftools", "scan"),
        ("typer", "typer", "kbuild"),
        ("click", "click", "kbuild"),
    ],
)
def test_a_package_that_is_missing(tmp_path: Path, module: str, package: str, command: str) -> None:
    before = tmp_path / "x.o"
    before.write_bytes((FIXTURES / "calls-gcc-dwarf.o").read_bytes())
    done = without([module], command, before)
    assert done.returncode == (2 if command == "scan" else 1)
    assert f"scpatch: error: the Python package {package} cannot be imported: " in done.stderr
    assert "[SCP137]\n" in done.stderr
    assert f"\nhint: {sys.executable} -m pip install {package}\n" in done.stderr
    assert "Traceback" not in done.stderr


_FAULTS = """
import sys
from scpatch import __main__ as program, program as running
def fail():
    {statement}
running.run(fail)
"""


@pytest.mark.parametrize(
    ("statement", "message", "code"),
    [
        ("open('/nowhere/x')", "/nowhere/x: No such file or directory", "SCP138"),
        ("raise MemoryError", "there is not enough memory", "SCP138"),
        ("[][1]", "internal error: IndexError: list index out of range", "SCP139"),
        ("import scpatch.nothing", "internal error: ModuleNotFoundError: ", "SCP139"),
    ],
)
def test_what_nothing_expected(statement: str, message: str, code: str) -> None:
    done = run(sys.executable, "-c", _FAULTS.format(statement=statement), cwd=ROOT, check=False)
    assert done.returncode == 1
    *trace, told, hint = done.stderr.split("\n")[:-1]
    assert told.startswith(f"scpatch: error: {message}")
    assert told.endswith(f" [{code}]")
    assert hint.startswith("hint: ")
    # Whoever is to mend it needs to know where it is; nobody else needs a traceback.
    assert bool(trace) is (code == "SCP139")
    assert ("Traceback" in done.stderr) is (code == "SCP139")


_NO_FOLDER = """
import sys, tempfile
tempfile._candidate_tempdir_list = lambda: ["/proc/1"]
from scpatch.__main__ import main
main()
"""


def test_no_folder_for_temporary_files(tmp_path: Path) -> None:
    before = tmp_path / "x.o"
    before.write_bytes((FIXTURES / "calls-gcc.o").read_bytes())
    files = before, rewritten(before)
    done = run(sys.executable, "-c", _NO_FOLDER, "verify", *files, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert (
        "scpatch: error: No usable temporary directory found in ['/proc/1'] [SCP138]" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_dry_run_needs_no_folder_for_temporary_files() -> None:
    words = ("rewrite", "--dry-run", "--diff", FIXTURES / "calls-gcc.o")
    done = run(sys.executable, "-c", _NO_FOLDER, *words, cwd=ROOT)
    assert "ld    r2,24(r1)" in done.stdout


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """Nothing is asked of it."""
    before = tmp_path / "x.o"
    before.write_bytes((FIXTURES / "calls-gcc.o").read_bytes())
    files = [str(before), str(rewritten(before))]
    command = [sys.executable, "-m", "scpatch", "verify", "-q", "--no-run", *files]
    home = {"HOME": "/proc/1/none", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **home}, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
