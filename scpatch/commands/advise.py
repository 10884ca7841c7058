"""`scpatch advise`: which strategies are possible, what they would cost, and which to take."""

from __future__ import annotations

from functools import partial

from scpatch.api import advise
from scpatch.commands.working import on_all
from scpatch.errors import Exit
from scpatch.options import Values, library_options, look, selection
from scpatch.report.advise import AdviseReport
from scpatch.report.errors import print_errors
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, note_left_out, print_unmatched


def run(values: Values) -> Exit:
    """Prints what could be done to the files; one that cannot be read does not hide the others."""
    work = partial(advise, options=library_options(values), image=values.image)
    files = selection(values)
    items = [(file.source,) for file in files.files]
    advices, errors, foreign = files.sort_out(on_all(work, items, values, "planning"))
    if advices or not errors or values.format != "text":
        report = AdviseReport(advices, brief=files.many, failed=errors)
        print_report(report, values.format, look(values))
    note_intermediate(name for advice in advices for name in advice.intermediate)
    note_left_out(files.links, foreign)
    if advices:
        names = (name for advice in advices for name in advice.trampolines)
        print_unmatched(values.trampolines, names)
    print_errors(errors)
    return Exit.USAGE if errors else Exit.OK
