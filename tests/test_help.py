"""The help: its width, its groups, and what it says of strategies and of the environment."""

from __future__ import annotations

import re

import pytest

from scpatch import strategies
from scpatch.commands import COMMANDS
from scpatch.help import BUILD_VARIABLES, grouped, strategy_rows, variables
from scpatch.kbuild.settings import OPTIONS
from scpatch.options import Group, Parameter
from tests.docs.commands import commands, help_text
from tests.tools import ROOT

EVERY = [*OPTIONS, *(option for command in COMMANDS.values() for option in command.parameters)]


@pytest.mark.parametrize("words", [(), *commands()], ids=" ".join)
def test_no_line_is_longer_than_the_terminal(words: tuple[str, ...]) -> None:
    assert [line for line in help_text(*words).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("parameter", EVERY, ids=lambda parameter: parameter.flag)
def test_each_option_of_a_command_is_in_a_group(parameter: Parameter) -> None:
    assert parameter.is_argument or parameter.group is not Group.OTHER


def test_the_groups_follow_each_other_and_hold_each_option_once() -> None:
    parameters = COMMANDS["rewrite"].parameters
    groups = dict(grouped(parameters))
    assert list(groups) == [group for group in Group if group in groups]
    listed = [option for options in groups.values() for option in options]
    assert sorted(map(id, listed)) == sorted(id(p) for p in parameters if not p.is_argument)
    titles = re.findall(r"^(\w+):$", help_text("rewrite"), re.M)
    assert titles == ["Arguments", *groups, "Strategies", "Environment", "Help"]


def test_each_strategy_is_listed_where_one_is_chosen() -> None:
    for text in (help_text("rewrite"), help_text("kbuild")):
        listed = text.partition("\nStrategies:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^  ([\w-]+) ", listed, re.M) == list(strategies.names())
    assert strategy_rows(COMMANDS["diff"].parameters) == []


def test_each_variable_that_the_code_reads_is_described() -> None:
    """Kbuild exports the others, and a shell sets that of completion."""
    read = set()
    for path in (ROOT / "scpatch").rglob("*.py"):
        read |= set(re.findall(r"""environ(?:\.get\(|\[)"(\w+)\"""", path.read_text()))
    assert {"NO_COLOR", "COLUMNS", "CROSS_COMPILE", "SCPATCH_FLAGS"} <= read
    rows = [*BUILD_VARIABLES, *variables(EVERY)]
    described = {name for names, _ in rows for name in names.split(", ")}
    assert read - described == {"KBUILD_EXTMOD", "MAKEFLAGS"}
