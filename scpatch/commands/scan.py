"""`scpatch scan`: trampolines and call sites."""

from __future__ import annotations

from functools import partial

from scpatch import batch
from scpatch.errors import Exit
from scpatch.options import Values, library_options, look, selection, shown
from scpatch.report.errors import print_error
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, note_left_out, print_unmatched
from scpatch.report.progress import progress_bar
from scpatch.report.scan import ScanReport
from scpatch.rewriter import try_plan
from scpatch.sites.actions import Common


def run(values: Values) -> Exit:
    """Prints what the files hold; a file that cannot be read does not hide the others."""
    lines = "all" if values.lines else "none"
    work = partial(try_plan, options=library_options(values, strategy=None, lines=lines))
    files = selection(values)
    with (
        batch.workers(values.jobs, len(files.files), dask=values.dask) as executor,
        progress_bar(len(files.files), "scanning") as step,
    ):
        jobs = [(file.source, None) for file in files.files]
        results = list(batch.run(work, jobs, executor, progress=step))
    plans, errors, foreign = files.sort_out(results)
    objects = [entry for plan in plans for entry in plan.objects]
    if objects or not errors or values.format != "text":
        report = ScanReport(
            [(entry.name, entry.scan) for entry in objects],
            brief=files.many,
            shown=shown(values),
            details=values.format == "html",
            failed=errors,
        )
        print_report(report, values.format, look(values))
    note_intermediate(entry.name for entry in objects if entry.intermediate)
    note_left_out(files.links, foreign)
    if objects:
        names = (name for entry in objects for name in entry.scan.names)
        print_unmatched(values.trampolines, names)
    for error in errors:
        print_error(error)
    wrong = values.check and any(
        site.state.changes or site.state is Common.REFUSED
        for entry in objects
        for site in entry.scan.sites
    )
    return Exit.ERROR if errors or wrong else Exit.OK
