"""The man pages in docs/man: they say what the help says, and groff renders them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from scpatch.commands import COMMANDS
from scpatch.kbuild.settings import OPTIONS
from scpatch.options import Parameter
from tests.tools import ROOT, run

FOLDER = ROOT / "docs/man"
PAGES = ("scpatch.1", "scpatch-ld.1")


def rendered(page: str) -> str:
    """The text of a page, in which no word is hyphenated; groff must not warn."""
    done = run("groff", "-man", "-ww", "-rHY=0", "-Tutf8", "-P-cbou", FOLDER / page)
    assert done.stderr == ""
    return done.stdout


def test_they_are_what_the_generator_writes(tmp_path: Path) -> None:
    run(sys.executable, FOLDER / "generate.py", tmp_path, cwd=ROOT)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PAGES)
    for page in PAGES:
        assert (tmp_path / page).read_text() == (FOLDER / page).read_text(), page


def sections(text: str) -> dict[str, str]:
    """The text below each heading of `scpatch COMMAND`."""
    parts = re.split(r"^   scpatch (\w+)", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def has(text: str, parameter: Parameter) -> bool:
    """Whether a rendered page describes a parameter, by its name and its help."""
    heading = re.search(rf"^ .*{re.escape(parameter.flag)}(?![\w-])", text, re.MULTILINE)
    words = " ".join(parameter.help.replace("`", "").split())
    return heading is not None and words in " ".join(text.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_of_a_command_is_described(command: str) -> None:
    text = sections(rendered("scpatch.1"))[command]
    for parameter in COMMANDS[command].parameters:
        assert has(text, parameter), parameter.flag


def test_each_option_of_the_build_step_is_described() -> None:
    text = rendered("scpatch-ld.1")
    for option in OPTIONS:
        assert has(text, option), option.flag
