"""The two links of a kernel build that scpatch takes part in."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from scpatch.errors import Exit
from scpatch.kbuild import copies, messages, spawn
from scpatch.kbuild.arguments import Command, Link, read, split
from scpatch.kbuild.prelink import prelink
from scpatch.kbuild.settings import Settings, parse


def run(words: Sequence[str]) -> int:
    """Links as `words` say, the options of SCPATCH_FLAGS in front of those of the command line.

    Returns the exit status. Raises ScpatchError; there is no output then.
    """
    own, rest = split(words)
    settings = parse([*os.environ.get("SCPATCH_FLAGS", "").split(), *own])
    command = read(rest)
    if command.link is Link.VMLINUX:
        return _vmlinux(command, settings)
    if command.link is Link.MODULE:
        return _module(command, settings)
    return _become(command)


def _vmlinux(command: Command, settings: Settings) -> int:
    """Makes or finds the copies of the inputs and becomes the linker."""
    folder = Path(os.path.dirname(command.output)) / copies.FOLDER
    if response := next((name for name in command.files if name.startswith("@")), None):
        raise copies.cannot_use(response)
    with copies.locked(folder):
        if settings.prelink:
            command, status = prelink(command, folder)
            if status:
                return status
        # What is missing is for the linker to say.
        wanted = [
            copies.copy_of(name, folder, settings, first=not command.has_symbols)
            for name in command.files
            if _has_content(name)
        ]
        planned = [(one.source, one.planned) for one in wanted if one.planned is not None]
        messages.refused([one.plan for _, one in planned], settings)
        for one in wanted:
            copies.make(one, settings)
        for name, made in planned:
            if made.changed:
                messages.rewritten(name)
                messages.summary(made.plan, kept=made.kept)
    new = command.with_inputs({one.source: one.path for one in wanted})
    if messages.verbose():
        print("+", new.linker, *new.arguments, file=sys.stderr)
    return _become(new)


def _has_content(name: str) -> bool:
    try:
        return os.stat(name).st_size > 0
    except OSError:
        return False


def _module(command: Command, settings: Settings) -> int:
    """Links to a temporary name and puts the rewritten result in place."""
    from scpatch.files.inputs import open_input
    from scpatch.rewriter import FilePlan, outputs_of, plan_object, write

    options = settings.module_options
    target = Path(command.output)
    temporary = target.with_name(f".tmp_{target.name}")
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    try:
        if status := spawn.run(command.with_output(str(temporary))):
            return status
        with open_input(temporary) as source:
            one, layout = plan_object(source.data, command.output, options)
            outputs = tuple(outputs_of(source, layout, target)) if layout else ()
        plan = FilePlan(target, (one,), outputs)
        messages.refused([plan], settings)
        if outputs:
            write([plan], allow_refused=settings.warn_only)
        else:
            temporary.replace(target)
        if one.plan.edits:
            messages.rewritten(command.output)
            messages.summary(plan)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return Exit.OK


def _become(command: Command) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(command.linker, [command.linker, *command.arguments])
    except OSError as error:
        raise spawn.cannot_run(command.linker, error) from error
