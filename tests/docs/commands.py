"""Writes the help of every command into its page: `python -m tests.docs.commands`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.page import write_section
from tests.tools import ROOT

PAGE = ROOT / "docs" / "reference" / "commands.md"
SECTION = "tests.docs.commands"


def help_text(*words: str) -> str:
    """What `scpatch WORDS --help` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "scpatch", *words, "--help"],
        env=os.environ | {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def commands(*words: str) -> Iterator[tuple[str, ...]]:
    """The commands below a command, in the order of its help, each before its own commands."""
    listed = help_text(*words).partition("\nCommands:\n")[2].partition("\n\n")[0]
    for name in re.findall(r"^  (\w+)", listed, re.M):
        yield (*words, name)
        yield from commands(*words, name)


def lines() -> list[str]:
    """The section as Markdown."""
    every = [(), *commands()]
    blocks = (["", f"### {' '.join(('scpatch', *words))}", "", "```text"] for words in every)
    texts = ([help_text(*words), "```"] for words in every)
    return [line for pair in zip(blocks, texts, strict=True) for part in pair for line in part][1:]


if __name__ == "__main__":
    write_section(PAGE, SECTION, lines())
