"""`scpatch diff`: what differs between two versions of an object, or of an archive's objects."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from scpatch.differ.objects import diff_objects
from scpatch.errors import Exit
from scpatch.files.inputs import check_code, has_intermediate, is_linked, read_object
from scpatch.files.members import label, open_objects, pair
from scpatch.report.diff import DiffReport
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate


class Values(NamedTuple):
    before: Path
    after: Path
    format: str | None
    context: int


def run(values: Values) -> Exit:
    """Prints the differences. ERROR means that there are some, as `diff` and `cmp` have it."""
    different = show(values.before, values.after, values.format, values.context)
    return Exit.ERROR if different else Exit.OK


def show(
    before: Path, after: Path, form: str | None, context: int, name: Path | None = None
) -> bool:
    """Prints the differences of two files; returns whether there are any.

    `name` is what the report calls the second one, if not by its path.
    """
    name = name or after
    differences = []
    with open_objects(before) as old, open_objects(after) as new:
        for member, old_data, new_data in pair(old, new, name):
            names = label(before, member), label(name, member)
            check_code(old_data, names[0])
            check_code(new_data, names[1])
            if old_data != new_data:
                linked = is_linked(old_data) and is_linked(new_data)
                old_file = read_object(old_data, names[0], linked=linked)
                new_file = read_object(new_data, names[1], linked=linked)
                if has_intermediate(new_file):
                    note_intermediate([names[1]])
                differences.append((*names, diff_objects(old_file, new_file, context)))
        print_report(DiffReport(differences), form)
    return bool(differences)
