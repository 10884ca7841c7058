"""What the lines in the tree run (Makefile.scpatch): `scpatch kbuild step`.

It does what `scpatch-ld` does. The lines put it only before the linker of vmlinux and of modules,
so a link that is neither is an error here, not one to pass on.
"""

from __future__ import annotations

from pathlib import Path

import scpatch
from scpatch.errors import Exit
from scpatch.kbuild import arguments, link
from scpatch.kbuild.settings import split
from scpatch.options import UsageError, Values


def run(values: Values) -> int:
    """Takes the options of `scpatch-ld`, then the linker and its arguments. Without these, checks
    the options and prints what tells this scpatch from another: make has it in its commands.

    Returns the exit code. Raises ScpatchError; then nothing is written.
    """
    words: tuple[str, ...] = values.files
    settings, command_line = split(words)
    if not command_line:
        from scpatch.kbuild.record import package_digest

        settings.check()
        print(f"scpatch {scpatch.__version__} {package_digest(str(Path(scpatch.__file__).parent))}")
        return Exit.OK
    command = arguments.read(command_line)
    if command.link is None:
        raise UsageError(
            f"neither the link of vmlinux nor that of a module: {' '.join(command_line)}",
            file="scpatch kbuild step",
            hint="the tree links in a way that scpatch does not know; `make SCPATCH=` builds "
            "without it",
        )
    return link.link(command, settings)
