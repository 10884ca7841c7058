"""What scpatch-ld does when a make starts: tells wrong options, and minds the saved commands.

`scpatch-ld` calls it when Kbuild tries an option of the linker. GNU make before 4.4 gives the
programs that `$(shell)` runs no variable that it sets itself. Linux 6.1 in its source tree is built
by one make without another below it; then only the command line of make tells what the user gave.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from scpatch.errors import Exit
from scpatch.kbuild import messages
from scpatch.kbuild.commands import settle
from scpatch.kbuild.settings import split
from scpatch.options import UsageError

_DRY = frozenset("nqt")
"""make's short options that run no command: --just-print, --question and --touch."""
_LONG_DRY = frozenset({"just-print", "dry-run", "recon", "question", "touch"})
_WITH_VALUE = frozenset("CEIWdfjlo")
"""make's short options that may take the rest of the word as their value."""


def run(make: str, words: Sequence[str]) -> int:
    """`make` is the process id of make, or empty; `words` are those of a call of scpatch-ld.

    Returns the exit code. Raises ScpatchError for options that no link could use.
    """
    arguments = _arguments(make)
    settings, command = split(words, _variable("SCPATCH_FLAGS", arguments))
    if not command:
        raise UsageError("no linker on the command line", file="scpatch-ld", hint=messages.USAGE)
    if shutil.which(command[0]) is None:
        raise messages.no_linker(command[0], "there is no such program")
    settings.check(command)
    if not _is_dry(arguments):
        external = _variable("M", arguments) or os.environ.get("KBUILD_EXTMOD", "")
        for root in dict.fromkeys((".", external or ".")):
            settle(Path(root))
    return Exit.OK


def _arguments(make: str) -> list[str]:
    """Those of the make; none if it cannot be asked."""
    try:
        content = Path("/proc", make, "cmdline").read_bytes() if make else b""
    except OSError:
        return []
    return [os.fsdecode(word) for word in content.split(b"\0")][1:]


def _variable(name: str, arguments: Sequence[str]) -> str:
    values = [word.partition("=")[2] for word in arguments if word.startswith(f"{name}=")]
    # make would expand these; they are checked when they are used.
    given = [value for value in values if "$" not in value]
    return given[-1] if given else os.environ.get(name, "")


def _is_dry(arguments: Sequence[str]) -> bool:
    """Whether make only shows what it would do. MAKEFLAGS starts with its short options."""
    flags = os.environ.get("MAKEFLAGS", "").partition(" ")[0]
    if not flags.startswith("-") and "=" not in flags and _DRY & set(flags):
        return True
    return any(map(_is_dry_option, arguments))


def _is_dry_option(word: str) -> bool:
    if word.startswith("--"):
        return word[2:] in _LONG_DRY
    if not word.startswith("-"):
        return False
    for letter in word[1:]:
        if letter in _DRY:
            return True
        if letter in _WITH_VALUE:
            return False
    return False
