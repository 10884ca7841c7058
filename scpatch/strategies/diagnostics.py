"""The diagnostics of all strategies, with those that belong to none.

`python -m scpatch.strategies.diagnostics` prints docs/reference/diagnostics.md.
"""

from __future__ import annotations

from importlib import import_module

from scpatch import diagnostics, strategies
from scpatch.diagnostics import Diagnostic


def every_diagnostic() -> dict[str, Diagnostic]:
    """All diagnostics by their codes, sorted."""
    every = dict(diagnostics.DIAGNOSTICS)
    for name in strategies.names():
        folder = strategies.folder(name)
        every |= import_module(f"{folder}.diagnostics").DIAGNOSTICS
    return dict(sorted(every.items()))


def hint(code: str) -> str:
    """What to do about a diagnostic, in one line; empty for an unknown code."""
    diagnostic = diagnostics.DIAGNOSTICS.get(code) or every_diagnostic().get(code)
    return diagnostic.hint if diagnostic else ""


def as_markdown() -> str:
    """The page for docs."""
    import textwrap

    lines = [
        "# Diagnostics",
        "",
        "Every message ends with its code, and `scpatch explain CODE` prints the same text.",
        "SCP1xx: input or output as a whole; SCP2xx: a refused call site; SCP3xx: verification;",
        "SCP4xx: kernel builds.",
    ]
    for code, diagnostic in every_diagnostic().items():
        lines += ["", f"## {code}: {diagnostic.title}", ""]
        lines += textwrap.wrap(diagnostic.text, 96)
        lines += ["", *textwrap.wrap(f"What to do: {diagnostic.hint}.", 96)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
