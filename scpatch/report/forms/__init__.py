"""The output forms. Each is a module here with `write(report, stream)`, and one line in `FORMS`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final, Protocol, TextIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scpatch.report.blocks import Report

FORMS: Final = {"table": "text", "terminal": "text", "plain": "plain", "json": "json"}
"""Name on the command line -> module. For a person, `scan` names the same form `table` that `diff`
names `terminal`."""


def choices(for_person: str) -> list[str]:
    """The names that a command takes, whose form for a person is `table` or `terminal`."""
    return [name for name, module in FORMS.items() if module != "text" or name == for_person]


class OutputForm(Protocol):
    """What each module of this package is."""

    def write(self, report: Report, stream: TextIO) -> None:
        """Writes the report; stops with the exceptions of the stream only."""


def print_report(report: Report, form: str | None) -> None:
    """Prints a report on stdout; None stands for text on a terminal, and plain lines in a pipe."""
    if form is None:
        form = "terminal" if sys.stdout.isatty() else "plain"
    module: OutputForm = import_module(f"{__name__}.{FORMS[form]}")
    module.write(report, sys.stdout)
