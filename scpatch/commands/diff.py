"""`scpatch diff`: what differs between two versions of an object, or of an archive's objects."""

from __future__ import annotations

import sys
from pathlib import Path

from scpatch.differ.objects import diff_objects
from scpatch.errors import Exit
from scpatch.files.inputs import check_code, has_intermediate, is_linked, read_object
from scpatch.files.members import label, open_objects, pair
from scpatch.report.diff import print_diff
from scpatch.report.messages import note_intermediate


def run(before: Path, after: Path, form: str | None, context: int) -> Exit:
    """Prints the differences. ERROR means that there are some, as `diff` and `cmp` have it."""
    form = form or ("terminal" if sys.stdout.isatty() else "plain")
    return Exit.ERROR if show(before, after, form, context) else Exit.OK


def show(before: Path, after: Path, form: str, context: int, name: Path | None = None) -> bool:
    """Prints the differences of two files; returns whether there are any.

    `name` is what the report calls the second one, where that is not its path.
    """
    name = name or after
    differences = []
    with open_objects(before) as old, open_objects(after) as new:
        for member, one, other in pair(old, new, name):
            names = label(before, member), label(name, member)
            check_code(one, names[0])
            check_code(other, names[1])
            if one != other:
                linked = is_linked(one) and is_linked(other)
                old_file = read_object(one, names[0], linked=linked)
                new_file = read_object(other, names[1], linked=linked)
                if has_intermediate(new_file):
                    note_intermediate([names[1]])
                differences.append((*names, diff_objects(old_file, new_file, context)))
        print_diff(differences, form)
    return bool(differences)
