"""`scpatch scan`: trampolines and call sites."""

from __future__ import annotations

from scpatch.commands.working import on_all
from scpatch.errors import Exit
from scpatch.options import Values, library_options, look, selection, shown
from scpatch.report.errors import print_errors
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, note_left_out, print_unmatched
from scpatch.report.scan import ScanReport
from scpatch.rewriter import plan_file
from scpatch.sites.actions import Common


def run(values: Values) -> Exit:
    """Prints what the files hold; a file that cannot be read does not hide the others."""
    lines = "all" if values.lines else "none"
    options = library_options(values, strategy=None, lines=lines)
    files = selection(values)
    items = [(file.source, options) for file in files.files]
    plans, errors, foreign = files.sort_out(
        on_all(plan_file, items, values, "scanning", quiet=values.quiet)
    )
    objects = [entry for plan in plans for entry in plan.objects]
    if not values.quiet and (objects or not errors or values.format != "text"):
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
    print_errors(errors)
    wrong = values.check and any(
        site.state.changes or site.state is Common.REFUSED
        for entry in objects
        for site in entry.scan.sites
    )
    if errors:
        return Exit.USAGE
    return Exit.ERROR if wrong else Exit.OK
