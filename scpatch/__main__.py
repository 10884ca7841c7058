"""`python -m scpatch`, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    # Names in an object need not be text; they must not stop the report that shows them.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    from scpatch.cli import app

    app(prog_name="scpatch")


if __name__ == "__main__":
    main()
