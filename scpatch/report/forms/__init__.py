"""The output forms. Each is a module here with `write(report, stream, look)`, and one line in
`FORMS`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final, Protocol, TextIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scpatch.report.blocks import Report
    from scpatch.report.look import Look

FORMS: Final = ("text", "plain", "json", "csv", "markdown", "github", "sarif", "html")
"""The names on the command line, and of the modules."""


class OutputForm(Protocol):
    """What each module of this package is."""

    def write(self, report: Report, stream: TextIO, look: Look) -> None:
        """Writes the report; stops with the exceptions of the stream only. `look` is for forms
        that a terminal shows."""


def print_report(report: Report, form: str, look: Look | None = None) -> None:
    """Prints a report on stdout, through a pager if it is longer than the terminal."""
    from scpatch.report.look import DEFAULT_LOOK
    from scpatch.report.pager import paged
    from scpatch.report.progress import end_progress

    module: OutputForm = import_module(f"{__name__}.{form}")
    look = look or DEFAULT_LOOK
    end_progress()
    with paged(sys.stdout, look) as stream:
        module.write(report, stream, look)
