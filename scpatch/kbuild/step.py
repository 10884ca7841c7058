"""What the rules in the tree run (Makefile.scpatch): `scpatch kbuild step`.

It does what `scpatch-ld` does, file by file: make decides when.
"""

from __future__ import annotations

from pathlib import Path

from scpatch.errors import Exit
from scpatch.kbuild import messages
from scpatch.kbuild.copies import LinkInput, make
from scpatch.kbuild.record import RecordFile
from scpatch.kbuild.settings import Settings, parse
from scpatch.options import UsageError, Values


def run(values: Values) -> Exit:
    """Takes the options of `scpatch-ld`, then a module, which is rewritten in place, or an archive
    for vmlinux and the name of its rewritten copy.

    Returns the exit code. Raises ScpatchError; then nothing is written.
    """
    files = [word for word in values.files if not word.startswith("-")]
    settings = parse([word for word in values.files if word.startswith("-")])
    if len(files) == 1 and not settings.prelink:
        return _module(files[0], settings)
    if len(files) == 2 and not settings.prelink:
        return _archive(files[0], Path(files[1]), settings)
    raise UsageError(
        f"wrong arguments: {' '.join(values.files)}",
        file="scpatch kbuild step",
        hint="name a module, or an archive and its copy; --prelink is for scpatch-ld",
    )


def _module(name: str, settings: Settings) -> Exit:
    from scpatch.rewriter import plan_file, write

    plan = plan_file(Path(name), settings.module_options)
    messages.check([plan], settings)
    if plan.outputs:
        write([plan], allow_refused=settings.warn_only)
        messages.rewritten(name, plan)
    return Exit.OK


def _archive(source: str, target: Path, settings: Settings) -> Exit:
    """Makes the copy even if nothing had to be rewritten: the link names it."""
    from scpatch.kbuild.plans import plan_copy

    record = RecordFile(target.with_name(f".tmp_{target.name}.json"), settings.key)
    planned = plan_copy(source, target, settings.image_options, record.read())
    if planned is None:
        raise UsageError(f"{source}: neither an archive nor an object")
    messages.check([planned.plan], settings)
    make(LinkInput(source, str(target), planned, record), allow_refused=settings.warn_only)
    messages.summary(planned.plan, skipped=planned.skipped)
    return Exit.OK
