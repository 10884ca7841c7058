"""`scpatch diff`: what differs between two versions of an object, an archive, or a folder."""

from __future__ import annotations

from functools import partial

from scpatch.api import diff
from scpatch.commands.working import on_all
from scpatch.errors import Exit
from scpatch.files.selection import pair
from scpatch.options import Values, check_workers, look, shown, warn_of_empty
from scpatch.report.diff import DiffReport
from scpatch.report.errors import print_errors
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, note_left_out, warn_alone
from scpatch.sites.choices import DEFAULT_TRAMPOLINES

_WORTH = 8
"""Pairs that take a process longer than its start."""


def run(values: Values) -> Exit:
    """Prints the differences. ERROR means that there are some, as for `diff` and `cmp`, and USAGE
    that a file could not be compared, which does not hide the others."""
    check_workers(values)
    patterns = values.trampolines or DEFAULT_TRAMPOLINES
    work = partial(diff, context=values.context, trampolines=patterns)
    versions = pair(values.before, values.after, values.files_froms, null=values.null)
    if versions.is_empty:
        warn_of_empty(values.files_froms)
    results = on_all(work, versions.sources, values, "comparing", worth=_WORTH, quiet=values.quiet)
    compared, errors, foreign = versions.pairs.sort_out(results)
    files = [file for part in compared for file in part]
    note_intermediate(file.after for file in files if file.intermediate)
    note_left_out(versions.pairs.links, foreign)
    if not values.quiet and (compared or not errors or values.format != "text"):
        report = DiffReport(
            [file[:3] for file in files],
            values.stat,
            shown(values),
            errors,
            compared=len(compared) if versions.pairs.many else None,
            alone=versions.alone,
        )
        print_report(report, values.format, look(values))
    warn_alone(versions.alone)
    print_errors(errors)
    if errors:
        return Exit.USAGE
    return Exit.ERROR if files or versions.alone else Exit.OK
