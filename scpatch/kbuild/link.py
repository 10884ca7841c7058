"""The links of a kernel build, and which of them scpatch takes part in."""

from __future__ import annotations

import os
from collections.abc import Sequence

from scpatch.kbuild import messages
from scpatch.kbuild.arguments import Command, Link, read
from scpatch.kbuild.linker import become
from scpatch.kbuild.settings import Settings, split
from scpatch.options import UsageError


def run(words: Sequence[str]) -> int:
    """Links as `words` say; the options of SCPATCH_FLAGS precede those of the command line.

    Returns the exit status. Raises UsageError if the command line is wrong; the output of an
    earlier link is still there then. Raises ScpatchError; then there is no output.
    """
    settings, rest = split(words, os.environ.get("SCPATCH_FLAGS", ""))
    if not rest:
        raise UsageError("no linker on the command line", file="scpatch-ld", hint=messages.USAGE)
    command = read(rest)
    return link(command, settings, note=command.saves_command)


def link(command: Command, settings: Settings, *, note: bool = False) -> int:
    """Does a link; one that scpatch takes no part in, as the linker does it. With `note` the next
    make knows of it (`commands`). As for `run`."""
    result: Command | int = command
    match command.link:
        case Link.VMLINUX:
            from scpatch.kbuild.image import link_image

            result = link_image(command, settings, note=note)
        case Link.MODULE:
            from scpatch.kbuild.module import link_module

            result = link_module(command, settings, note=note)
        case Link.UNKNOWN:
            raise UsageError(
                "it is linked like a kernel, but not by arch/powerpc/kernel/vmlinux.lds, so its "
                "calls would not be rewritten",
                file=command.output,
                hint="scpatch is for powerpc kernels; link others without it",
            )
    return become(result) if isinstance(result, Command) else result
