"""Messages on stderr: how much it matters, where it is, what it is, then what to do.

`scpatch: error: FILE: .text+0x1a0 in tcp_sendmsg: what is wrong [CODE]`, and on the next line
`hint: what to do`: the problem matchers in `docs/how-to/ci.md` read that form.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from itertools import groupby

from scpatch.errors import ScpatchError

_PACKAGES = {
    **{name: name for name in ("capstone", "click", "lief", "msgspec", "rich", "typer")},
    "elftools": "pyelftools",
    "keystone": "keystone-engine",
}
"""The names that pip has for the modules of other projects."""


class Kind(StrEnum):
    """How much a message matters."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


def print_message(kind: Kind, text: str, advice: str = "") -> None:
    print(f"scpatch: {kind}: {text}", file=sys.stderr)
    print_hint(advice)


def print_hint(advice: str) -> None:
    """Prints what to do about the messages before it, if there is anything."""
    if advice:
        print(f"hint: {advice}", file=sys.stderr)


def print_errors(errors: Iterable[ScpatchError]) -> None:
    """Prints each, and after those with the same hint that follow each other, what to do."""
    from scpatch.report.words import clean

    for advice, group in groupby(errors, _advice):
        for error in group:
            # A name has no lines, but a message may: the help, or what a tool has said.
            lines = str(error).replace(error.file, clean(error.file), 1).split("\n")
            print_message(Kind.ERROR, "\n".join(map(clean, lines)))
        print_hint(clean(advice))


def _advice(error: ScpatchError) -> str:
    from scpatch.strategies.diagnostics import hint

    return error.hint or hint(error.code)


def as_message(error: Exception) -> ScpatchError:
    """The message for an exception that no caller expected. If only a fault in scpatch explains it,
    prints the traceback too."""
    if isinstance(error, ScpatchError):
        return error
    if isinstance(error, ImportError) and (package := _package(error)):
        return ScpatchError(
            "SCP137",
            f"the Python package {package} cannot be imported: {error}",
            hint=f"{sys.executable} -m pip install {package}",
        )
    if isinstance(error, MemoryError):
        return ScpatchError("SCP138", "there is not enough memory")
    if isinstance(error, OSError):
        place = error.filename if isinstance(error.filename, str) else ""
        return ScpatchError("SCP138", error.strerror or str(error), file=place)
    import traceback

    traceback.print_exception(error)
    return ScpatchError("SCP139", f"internal error: {type(error).__name__}: {error}")


def _package(error: ImportError) -> str:
    """The package that is missing, or that fails when it is imported; empty for scpatch itself."""
    from traceback import walk_tb

    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    modules = [error.name or "", *(str(frame.f_globals.get("__name__")) for frame in frames)]
    roots = (module.partition(".")[0] for module in modules)
    return next((_PACKAGES[root] for root in roots if root in _PACKAGES), "")
