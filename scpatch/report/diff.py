"""`scpatch diff`: the difference of two objects in each form."""

from __future__ import annotations

from collections.abc import Sequence

from scpatch.differ.model import ObjectDiff


def print_diff(diffs: Sequence[tuple[str, str, ObjectDiff]], form: str) -> None:
    """Prints (name before, name after, difference) on stdout; `form` is `terminal`, `plain` or
    `json`."""
    if form == "json":
        from scpatch.report.diff_json import print_json

        print_json(diffs)
    elif form == "plain":
        from scpatch.report.diff_plain import print_plain

        print_plain(diffs)
    else:
        from scpatch.report.diff_terminal import print_terminal

        print_terminal(diffs)
