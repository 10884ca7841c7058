"""The link of a module: its result is rewritten before it appears under its name."""

from __future__ import annotations

from pathlib import Path

from scpatch.errors import Exit
from scpatch.files.inputs import open_input
from scpatch.kbuild import messages
from scpatch.kbuild.arguments import Command
from scpatch.kbuild.linker import spawn, start
from scpatch.kbuild.settings import Settings
from scpatch.rewriter import FilePlan, outputs_of, plan_object, write


def link_module(command: Command, settings: Settings, *, note: bool) -> int:
    """Links to a temporary name and puts the rewritten result in place. Returns the linker's exit
    status."""
    options = settings.module_options
    target = Path(command.output)
    temporary = target.with_name(f".tmp_{target.name}")
    first_step = command.with_output(str(temporary))
    start(command, note=note)
    try:
        if status := spawn(first_step):
            return status
        with open_input(temporary) as source:
            entry, layout = plan_object(source.data, command.output, options)
            outputs = tuple(outputs_of(source, layout, target)) if layout else ()
        plan = FilePlan(target, (entry,), outputs)
        messages.check([plan], settings)
        if outputs:
            check = settings.check_of(options)
            write([plan], allow_refused=settings.warn_only, sync=settings.sync, check=check)
            messages.rewritten(command.output, plan, settings)
        else:
            messages.unchanged(plan)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return Exit.OK
