"""What the help and the man pages say beside each option: groups, strategies, the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from scpatch import strategies
from scpatch.options import Group, Parameter

Rows = list[tuple[str, str]]

_VARIABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "color": {
        "NO_COLOR": "If it is not empty: no colours.",
        "FORCE_COLOR, CLICOLOR_FORCE": "Colours in a pipe too; 0: none, or only on a terminal.",
        "CLICOLOR": "0: no colours.",
        "TERM, COLORTERM": "How many colours the terminal has. TERM=dumb: none, and no pager.",
    },
    "wide": {"COLUMNS": "The width of reports, instead of the terminal's."},
    "pager": {"SCPATCH_PAGER, PAGER": "The pager; cat, or an empty value: none."},
    "cross_compile": {
        "CROSS_COMPILE": "Prefix of the binutils, if --cross-compile is not given.",
        "TMPDIR": "Where the files of a run under QEMU are while it lasts.",
    },
}
"""What is read from the environment, by the option of a command that has to do with it."""
BUILD_VARIABLES: Final[Rows] = [
    ("SCPATCH_FLAGS", "Options, separated by blanks; those before the linker follow them."),
    ("SCPATCH_PYTHON", "The Python that runs scpatch from a checkout."),
    ("KBUILD_VERBOSE", "Set by make V=1: print what is rewritten and how the linker is called."),
]
"""What the build step reads from the environment, apart from Kbuild's own variables."""


def grouped(parameters: Sequence[Parameter]) -> Iterator[tuple[Group, list[Parameter]]]:
    """The options by their groups, in the order of the groups."""
    for group in Group:
        options = [entry for entry in parameters if not entry.is_argument and entry.group is group]
        if options:
            yield group, options


def strategy_rows(parameters: Sequence[Parameter]) -> Rows:
    """Each strategy in a line, if one of the options takes a strategy."""
    if not any(parameter.name == "strategy" for parameter in parameters):
        return []
    summaries = {name: strategies.load(name).summary for name in strategies.names()}
    return [(name, f"{text[0].upper()}{text[1:]}.") for name, text in summaries.items()]


def variables(parameters: Sequence[Parameter]) -> Rows:
    """What a command with these options reads from the environment."""
    names = (parameter.name for parameter in parameters)
    return [row for name in names for row in _VARIABLES.get(name, {}).items()]
