"""The two links of a kernel build that scpatch takes part in."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from scpatch.errors import Exit, ScpatchError
from scpatch.kbuild import copies, messages, spawn
from scpatch.kbuild.arguments import Command, Link, read, split
from scpatch.kbuild.prelink import prelink
from scpatch.kbuild.settings import Settings, parse


def run(words: Sequence[str]) -> int:
    """Links as `words` say; the options of SCPATCH_FLAGS precede those of the command line.

    Returns the exit status. Raises ScpatchError; then there is no output.
    """
    options, rest = split(words)
    settings = parse([*os.environ.get("SCPATCH_FLAGS", "").split(), *options])
    command = read(rest)
    if command.link is Link.VMLINUX:
        return _vmlinux(command, settings)
    if command.link is Link.MODULE:
        return _module(command, settings)
    return _become(command)


def _vmlinux(command: Command, settings: Settings) -> int:
    """Makes or finds the copies of the inputs and becomes the linker."""
    folder = Path(os.path.dirname(command.output)) / copies.FOLDER
    for name in command.files:
        if name.startswith("@"):
            raise ScpatchError(
                "SCP109",
                "a response file in a link of vmlinux: its inputs would not be rewritten",
                file=name,
                hint="name the inputs on the command line",
            )
    with copies.locked(folder):
        if settings.prelink:
            command, status = prelink(command, folder)
            if status:
                return status
        key = settings.key
        inputs = [
            copies.prepare(name, folder, settings, key, first=command.is_first)
            for name in command.files
            if _has_content(name)
        ]
        messages.check([entry.planned.plan for entry in inputs if entry.planned], settings)
        for entry in inputs:
            copies.make(entry, allow_refused=settings.warn_only)
        for entry in inputs:
            if entry.planned and entry.planned.changed:
                plan, _, _, skipped = entry.planned
                messages.rewritten(entry.source, plan, skipped=skipped)
    command = command.with_inputs({entry.source: entry.path for entry in inputs})
    if messages.verbose():
        print("+", command.linker, *command.arguments, file=sys.stderr)
    return _become(command)


def _has_content(name: str) -> bool:
    """Whether to look at an input. The linker reports one that is missing."""
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
    target.unlink(missing_ok=True)
    try:
        if status := spawn.run(command.with_output(str(temporary))):
            return status
        with open_input(temporary) as source:
            entry, layout = plan_object(source.data, command.output, options)
            outputs = tuple(outputs_of(source, layout, target)) if layout else ()
        plan = FilePlan(target, (entry,), outputs)
        messages.check([plan], settings)
        if outputs:
            write([plan], allow_refused=settings.warn_only)
            messages.rewritten(command.output, plan)
        else:
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return Exit.OK


def _become(command: Command) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(command.linker, [command.linker, *command.arguments])
    except OSError as error:
        raise spawn.cannot_run(command.linker, error) from error
