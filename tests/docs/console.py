"""Runs the sessions that pages show, and compares what they print.

A block of a page that is marked as `console` is a session: lines that start with `$ ` are commands,
the lines after each are what a terminal of 100 columns shows. `...` stands for anything, as in a
doctest. A command that shall fail says so: `# exit code 1`.
"""

from __future__ import annotations

import doctest
import os
import re
from pathlib import Path
from typing import NamedTuple

from tests.terminal import run_in_terminal

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)
_EXIT_CODE = re.compile(r"# exit code (\d)$")


class Command(NamedTuple):
    text: str
    output: str
    """What the page shows after it."""

    @property
    def exit_code(self) -> int:
        match = _EXIT_CODE.search(self.text)
        return int(match[1]) if match else 0


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page that are marked as `language`."""
    return [text for marked, text in _BLOCK.findall(page) if marked == language]


def files(page: str) -> dict[str, str]:
    """The files that a reader is told to write: name -> content."""
    return dict(_FILE.findall(page))


def commands(page: str) -> list[Command]:
    """All commands of a page's sessions."""
    sessions = "".join(blocks(page, "console"))
    parts = re.split(r"^\$ ", sessions, flags=re.M)
    assert not parts[0].strip(), "a session starts with a command"
    return [Command(*part.partition("\n")[::2]) for part in parts[1:]]


def run(command: Command, folder: Path, **environment: str) -> tuple[int, str]:
    """The exit code of a command in a terminal, and what it printed there."""
    settings = {"TERM": "dumb", "COLUMNS": "100", "NO_COLOR": "1"} | environment
    words = ["/bin/sh", "-c", command.text]
    code, printed = run_in_terminal(words, folder, os.environ | settings)
    return code, printed.replace("\r\n", "\n")


def _everywhere(text: str) -> str:
    """What a command prints on any host: without trailing blanks, and with the libraries and
    programs of x86-64."""
    text = "\n".join(line.rstrip() for line in text.rstrip().splitlines())
    text = re.sub("^Checked with [^.;]+", "Checked with LIEF and capstone", text, flags=re.M)
    return text.replace("; run on this machine.", "; run with qemu-ppc64le.")


def check(command: Command, folder: Path, **environment: str) -> None:
    """Run a command: its exit code and what it prints must be what the page shows."""
    code, printed = run(command, folder, **environment)
    assert code == command.exit_code, printed
    expected, printed = map(_everywhere, (command.output, printed))
    if not doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS):
        raise AssertionError(f"$ {command.text}\n{printed}\n--- the page shows ---\n{expected}")
