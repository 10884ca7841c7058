"""`scpatch diff`: what differs between two versions of an object."""

from __future__ import annotations

import sys
from pathlib import Path

from scpatch.errors import Exit
from scpatch.inputs import open_input, read_object
from scpatch.report.diff import diff_objects, print_diff


def run(before: Path, after: Path, form: str | None, context: int) -> Exit:
    """Prints the differences. ERROR means that there are some, as `diff` and `cmp` have it."""
    form = form or ("terminal" if sys.stdout.isatty() else "plain")
    return Exit.ERROR if show(before, after, form, context) else Exit.OK


def show(before: Path, after: Path, form: str, context: int) -> bool:
    """Prints the differences of two files; returns whether there are any."""
    with open_input(before) as old, open_input(after) as new:
        if old.data == new.data:
            print_diff([], form)
            return False
        difference = diff_objects(
            read_object(old.data, str(before)), read_object(new.data, str(after)), context
        )
        print_diff([(str(before), str(after), difference)], form)
    return True
