"""`scpatch advise`: which strategies are possible, what they would cost, and which to take."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from scpatch.advisor import Advice, advise
from scpatch.errors import Exit, ScpatchError
from scpatch.report.advise import print_advice
from scpatch.report.messages import note_intermediate, print_error, print_unmatched
from scpatch.report.progress import ProgressBar
from scpatch.rewriter import Options


def run(
    files: Sequence[Path],
    options: Options,
    form: str | None,
    *,
    image: bool,
    patterns: Sequence[str] = (),
) -> Exit:
    """Prints what could be done to the files; one that cannot be read does not hide the others.
    `patterns` are those of trampolines' names that the user gave."""
    found: list[Advice] = []
    errors: list[ScpatchError] = []
    with ProgressBar(len(files), "planning") as progress:
        for path in files:
            try:
                found.append(advise(path, options, image=image))
            except ScpatchError as error:
                errors.append(error)
            progress.step(path)
    if found or not errors:
        print_advice(found, form or ("table" if sys.stdout.isatty() else "plain"))
    note_intermediate(name for one in found for name in one.intermediate)
    print_unmatched(patterns, (name for advice in found for name in advice.trampolines))
    for one in errors:
        print_error(one)
    return Exit.ERROR if errors else Exit.OK
