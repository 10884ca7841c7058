"""`scpatch diff`: what differs between two versions of an object, an archive, or a folder."""

from __future__ import annotations

from functools import partial

from scpatch import batch
from scpatch.api import diff
from scpatch.errors import Exit
from scpatch.files.selection import pair
from scpatch.options import Values, look, shown
from scpatch.report.diff import DiffReport
from scpatch.report.errors import print_error
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, note_left_out, warn_alone
from scpatch.report.progress import progress_bar
from scpatch.sites.choices import DEFAULT_TRAMPOLINES


def run(values: Values) -> Exit:
    """Prints the differences. ERROR means that there are some, as for `diff` and `cmp`, and USAGE
    that a file could not be compared, which does not hide the others."""
    patterns = values.trampolines or DEFAULT_TRAMPOLINES
    work = partial(diff, context=values.context, trampolines=patterns)
    versions = pair(values.before, values.after)
    with progress_bar(len(versions.before), "comparing") as step:
        # A difference makes its rows when they are printed, so another process cannot send it.
        results = batch.run(partial(batch.attempt, work), versions.sources, progress=step)
        compared, errors, foreign = versions.pairs.sort_out(results)
    files = [file for part in compared for file in part]
    note_intermediate(file.after for file in files if file.intermediate)
    note_left_out(versions.pairs.links, foreign)
    if compared or not errors or values.format != "text":
        report = DiffReport([file[:3] for file in files], values.stat, shown(values), errors)
        print_report(report, values.format, look(values))
    warn_alone(versions.alone)
    for error in errors:
        print_error(error)
    if errors:
        return Exit.USAGE
    return Exit.ERROR if files or versions.alone else Exit.OK
