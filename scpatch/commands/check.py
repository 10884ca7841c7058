"""`scpatch check`: is every static call of these files right, by the files alone?"""

from __future__ import annotations

from functools import partial

from scpatch.api import check
from scpatch.commands.working import on_all
from scpatch.errors import Exit
from scpatch.options import Values, library_options, look, selection, shown
from scpatch.report.check import CheckReport
from scpatch.report.errors import print_errors
from scpatch.report.filters import EVERYTHING
from scpatch.report.forms import print_report
from scpatch.report.messages import (
    note_intermediate,
    note_left_out,
    print_findings,
    print_unmatched,
)
from scpatch.verifier.tools import Toolchain

_WORTH = 8
"""Files that take a process longer than its start: one takes some 30 milliseconds."""


def run(values: Values) -> Exit:
    """Prints what is wrong or not shown. OK means that every call of every file is right, ERROR
    that one is not, USAGE that a file cannot be read."""
    options = library_options(values)
    toolchain = Toolchain(values.cross_compile, ar=values.ar)
    work = partial(check, options=options, image=values.image, toolchain=toolchain)
    files = selection(values)
    items = [(file.source,) for file in files.files]
    results = on_all(work, items, values, "checking", worth=_WORTH, quiet=values.quiet)
    checked, errors, foreign = files.sort_out(results)
    verdicts = [verdict for file in checked for verdict in file]
    report = CheckReport(verdicts, errors, values.verbose, shown(values))
    if values.quiet:
        print_findings(report._replace(shown=EVERYTHING).findings())
    else:
        print_report(report, values.format, look(values))
        note_intermediate(verdict.label for verdict in verdicts if verdict.intermediate)
        note_left_out(files.links, foreign)
        names = (name for verdict in verdicts for name in verdict.trampolines)
        print_unmatched(values.trampolines, names)
    print_errors(errors)
    if errors or any(verdict.unreadable for verdict in verdicts):
        return Exit.USAGE
    return Exit.OK if all(verdict.proven for verdict in verdicts) else Exit.ERROR
