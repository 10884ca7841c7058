"""Dependency files, which tell make and ninja what a file was made from, as `gcc -MD -MP` does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from scpatch.errors import ScpatchError

_UNREADABLE = re.compile(r"[\x00-\x1f\x7f%*?=|;&<>^'\"`\\]")
"""Characters that make or ninja has no spelling for, or that they spell differently."""


def depfile(path: Path, targets: Sequence[str], files: Sequence[str], others: Sequence[str]) -> str:
    """The content of the dependency file `path`: each target depends on `files` and `others`.

    Each of `others` is also a target that depends on nothing, so that make does not miss one that
    is needed no longer. Names are taken as they are: a build compares them with its own.

    Raises SCP110 for a name that make or ninja cannot read.
    """
    sources = list(dict.fromkeys([*files, *others]))
    for name in (*targets, *sources):
        if wrong := _UNREADABLE.search(name):
            raise ScpatchError(
                "SCP110",
                f"cannot write: make and ninja do not both read {wrong[0]!r} in the name {name!r}",
                file=str(path),
                hint="rename that file, or leave out --depfile",
            )
    lines = [f"{_words(targets)}: {_words(sources)}"]
    lines += [f"{_words([name])}:" for name in sources if name not in files]
    return "\n\n".join(lines) + "\n"


def _words(names: Sequence[str]) -> str:
    return " \\\n ".join(re.sub(r"[ #:]", r"\\\g<0>", name).replace("$", "$$") for name in names)
