"""`scpatch advise`: which strategies are possible, what they would cost, and which to take."""

from __future__ import annotations

from scpatch.advisor import Advice
from scpatch.api import advise
from scpatch.errors import Exit, ScpatchError
from scpatch.options import Values, library_options, look
from scpatch.report.advise import AdviseReport
from scpatch.report.errors import print_error
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, print_unmatched
from scpatch.report.progress import progress_bar


def run(values: Values) -> Exit:
    """Prints what could be done to the files; one that cannot be read does not hide the others."""
    options = library_options(values)
    advices: list[Advice] = []
    errors: list[ScpatchError] = []
    with progress_bar(len(values.files), "planning") as step:
        for path in values.files:
            try:
                advices.append(advise(path, options, image=values.image))
            except ScpatchError as error:
                errors.append(error)
            step(path)
    if advices or not errors:
        print_report(AdviseReport(advices), values.format, look(values))
    note_intermediate(name for advice in advices for name in advice.intermediate)
    if advices:
        names = (name for advice in advices for name in advice.trampolines)
        print_unmatched(values.trampolines, names)
    for message in errors:
        print_error(message)
    return Exit.ERROR if errors else Exit.OK
