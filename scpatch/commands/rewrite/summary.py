"""What `rewrite` tells of what it did: a report on stdout, if one is wanted, and a summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from scpatch.errors import ScpatchError
from scpatch.options import Values, look, shown
from scpatch.report.errors import Kind, print_message
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, print_sites, print_stats, print_unmatched
from scpatch.report.words import clean, summary_line, total_line
from scpatch.rewriter import FilePlan

if TYPE_CHECKING:
    from scpatch.report.diff import DiffReport
    from scpatch.report.look import Look

_NOTE: Final = "Kbuild makes it for modpost, and links the image from vmlinux.a on powerpc"
_ADVICE: Final = (
    "to get an image that is right, build with LD='scpatch-ld LINKER', or with LD='scpatch-ld "
    "--prelink LINKER' from one object (scpatch kbuild --help)"
)
"""About an object of Kbuild's that is not linked into anything. It has no mark but its name."""


def look_of(values: Values) -> Look:
    """How a report looks. What is to be written must not wait for a user to leave a pager."""
    return look(values)._replace(pager=values.pager and values.dry_run)


def report(
    plans: Sequence[FilePlan],
    values: Values,
    differences: DiffReport | None,
    failed: Sequence[ScpatchError],
    *,
    brief: bool,
    written: bool,
) -> None:
    """Prints the report in the format that is wanted, if one is."""
    if values.format is None:
        return
    from scpatch.report.rewrite import RewriteReport

    rewritten = RewriteReport(
        *(plans, written, shown(values), brief, differences),
        details=values.format == "html",
        failed=failed,
    )
    print_report(rewritten, values.format, look_of(values))


def summarize(
    plans: Sequence[FilePlan],
    failed: Sequence[ScpatchError],
    values: Values,
    *,
    brief: bool,
    written: bool,
) -> None:
    """Prints a line a file on stderr, in `brief` of changed and refused ones only, and notes."""
    objects = [entry for plan in plans for entry in plan.objects]
    note_intermediate(entry.name for entry in objects if entry.intermediate)
    if objects:
        names = (name for entry in objects for name in entry.scan.names)
        print_unmatched(values.trampolines, names)
    for plan in plans:
        if values.verbose:
            print_sites(plan, shown(values))
        if not brief or plan.changed or plan.refused:
            print(summary_line(plan, written=written), file=sys.stderr)
        if plan.path.name == "vmlinux.o":
            print_message(Kind.NOTE, f"{clean(str(plan.path))}: {_NOTE}", _ADVICE)
    if brief and plans:
        print(total_line(plans, written=written, failed=failed), file=sys.stderr)
    if values.verify and written and any(plan.outputs for plan in plans):
        print_message(Kind.NOTE, "each new file was proven and executed first")
    if values.stats:
        print_stats(plans)
