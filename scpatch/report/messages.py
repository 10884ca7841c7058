"""Error messages on stderr: what is wrong and where, then what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from scpatch.errors import ScpatchError


def print_error(error: ScpatchError) -> None:
    from scpatch.catalogue import hint

    advice = error.hint or hint(error.code)
    print(f"scpatch: {error}", file=sys.stderr)
    if advice:
        print(f"\nhint: {advice}\n", file=sys.stderr)


def print_unmatched(patterns: Sequence[str], names: Iterable[str]) -> None:
    """Warns of each pattern that the user gave for trampolines and no name matches: a typing error
    would look like an input without call sites."""
    if not patterns:
        return
    from fnmatch import fnmatchcase

    known = set(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            what = f"no symbol matches --trampoline {pattern!r}"
            print(f"scpatch: warning: {what}", file=sys.stderr)
