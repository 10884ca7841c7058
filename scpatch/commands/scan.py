"""`scpatch scan`: trampolines and call sites."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from scpatch.errors import Exit
from scpatch.report.messages import note_intermediate, print_error, print_unmatched
from scpatch.report.progress import ProgressBar
from scpatch.report.scan import print_scan
from scpatch.rewriter import Options, plan_all
from scpatch.sites.choices import Choices


def run(
    files: Sequence[Path],
    choices: Choices,
    form: str | None,
    *,
    lines: bool,
    patterns: Sequence[str] = (),
) -> Exit:
    """Prints what the files hold; a file that cannot be read does not hide the others. `patterns`
    are those of the choices that the user gave."""
    options = Options(strategy=None, choices=choices, lines="all" if lines else "none")
    with ProgressBar(len(files), "scanning") as progress:
        plans, errors = plan_all(files, options, None, progress.step)
    found = [(one.name, one.scan) for plan in plans for one in plan.objects]
    if found or not errors:
        print_scan(found, form or ("table" if sys.stdout.isatty() else "plain"))
    note_intermediate(one.name for plan in plans for one in plan.objects if one.intermediate)
    print_unmatched(patterns, (name for _, scan in found for name in scan.names))
    for error in errors:
        print_error(error)
    return Exit.ERROR if errors else Exit.OK
