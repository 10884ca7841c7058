"""`scpatch diff`: what differs between two versions of an object, or of an archive's objects."""

from __future__ import annotations

from scpatch.api import diff
from scpatch.errors import Exit
from scpatch.options import Values, look, shown
from scpatch.report.diff import DiffReport
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate
from scpatch.report.progress import progress
from scpatch.sites.choices import DEFAULT_TRAMPOLINES


def run(values: Values) -> Exit:
    """Prints the differences. ERROR means that there are some, as for `diff` and `cmp`."""
    patterns = values.trampolines or DEFAULT_TRAMPOLINES
    with progress("comparing"):
        files = diff(values.before, values.after, context=values.context, trampolines=patterns)
    note_intermediate(file.after for file in files if file.intermediate)
    report = DiffReport([file[:3] for file in files], values.stat, shown(values))
    print_report(report, values.format, look(values))
    return Exit.ERROR if files else Exit.OK
