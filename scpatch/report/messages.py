"""Error messages on stderr: what is wrong and where, then what to do."""

from __future__ import annotations

import sys

from scpatch.errors import ScpatchError


def print_error(error: ScpatchError) -> None:
    from scpatch.catalogue import hint

    advice = error.hint or hint(error.code)
    print(f"scpatch: {error}", file=sys.stderr)
    if advice:
        print(f"\nhint: {advice}\n", file=sys.stderr)
