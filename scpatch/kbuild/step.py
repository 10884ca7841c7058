"""What the lines in the tree run (Makefile.scpatch): `scpatch kbuild step`.

It does what `scpatch-ld` does. The lines put it only before the linker of vmlinux and of modules,
so a link that is neither is an error here, not one to pass on.
"""

from __future__ import annotations

from pathlib import Path

import scpatch
from scpatch.errors import Exit
from scpatch.kbuild import arguments, link
from scpatch.kbuild.settings import Settings, package_digest, parse, split
from scpatch.options import UsageError, Values


def run(values: Values) -> int:
    """Takes the options of `scpatch-ld`, then the linker and its arguments. Without these, checks
    the options and prints what tells this scpatch from another: make has it in its commands.

    Returns the exit code. Raises ScpatchError; then nothing is written.
    """
    words: tuple[str, ...] = values.files
    if all(word.startswith("-") for word in words):
        _check(parse(words))
        print(f"scpatch {scpatch.__version__} {package_digest(str(Path(scpatch.__file__).parent))}")
        return Exit.OK
    settings, command_line = split(words)
    command = arguments.read(command_line)
    if command.link is None:
        raise UsageError(
            f"neither the link of vmlinux nor that of a module: {' '.join(command_line)}",
            file="scpatch kbuild step",
            hint="the tree links in a way that scpatch does not know; `make SCPATCH=` builds "
            "without it",
        )
    return link.link(command, settings)


def _check(settings: Settings) -> None:
    """Raises UsageError if options do not go together. The file of --asm-offsets may be one that
    the build makes."""
    header = settings.asm_offsets
    missing = header is not None and not header.exists()
    known = Settings(**{**vars(settings), "asm_offsets": None}) if missing else settings
    for _ in (known.image_options, known.module_options):
        pass
