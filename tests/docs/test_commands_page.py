"""docs/reference/commands.md: the help is current, and the commands of its table run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scpatch.errors import Exit
from tests import archives, images
from tests.docs import commands
from tests.docs.console import ROOT
from tests.tools import FIXTURES, assemble, run

PAGE = commands.PAGE.read_text()
TABLE = re.findall(r"^\| [^|]+ \| `(scpatch [^`]+)`", PAGE, re.M)
CALLER = "FRAME f\n{} __SCT__x\nLEAVE f\n"
OFFSETS = "include/generated/asm-offsets.h"


def test_the_help_is_current() -> None:
    begin, end = (f"<!-- {commands.SECTION}: {word} -->" for word in ("begin", "end"))
    shown = PAGE.partition(begin)[2].partition(end)[0]
    assert shown.strip("\n") == "\n".join(commands.lines())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the table names, but for entry.o."""
    for name in ("before.o", "vmlinux.o"):
        shutil.copy(FIXTURES / "calls-gcc.o", tmp_path / name)
    run("scpatch", "rewrite", "before.o", "-o", "after.o", cwd=tmp_path)
    assemble(tmp_path, CALLER.format("CALL") + ".data\n.quad __SCK__x", "core.o")
    (tmp_path / "members").mkdir()
    shutil.copy(FIXTURES / "calls-clang.o", tmp_path / "members")
    archives.make(tmp_path / "vmlinux.a", "members/calls-clang.o", options="rcsT")
    images.link(tmp_path)
    (tmp_path / OFFSETS).parent.mkdir(parents=True)
    (tmp_path / OFFSETS).write_text(f"#define PACATOC {images.PACATOC}\n")
    return tmp_path


EXIT_CODES = {
    "scpatch diff before.o after.o": Exit.ERROR,
    "scpatch verify vmlinux": Exit.ERROR,
}
"""Of commands that do not end with 0. The vmlinux here is not patched."""


@pytest.mark.parametrize("command", TABLE)
def test_a_command_of_the_table(command: str, folder: Path) -> None:
    if "entry.o" in command:
        assemble(folder, CALLER.format("bl"), "entry.o")
    done = run("sh", "-c", command, cwd=folder, check=False)
    assert done.returncode == EXIT_CODES.get(command, 0), done.stdout + done.stderr


def test_every_option_that_a_page_shows_exists() -> None:
    known = set(re.findall(r"--[\w-]+", "\n".join(commands.lines())))
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for line in re.findall(r"^.*\bscpatch(?:-ld)? .*$", page.read_text(), re.M):
            for options in re.findall(r"\bscpatch(?:-ld)? ([^|`;]+)", line):
                shown = set(re.findall(r"(?<!\S)--[a-z][\w-]*", options))
                assert shown <= known, f"{page}: {line}"
