"""What the rules in the tree run (Makefile.scpatch): `scpatch kbuild step`.

The same as `scpatch-ld` does, file by file, since there make sees to what is done when.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from scpatch.errors import Exit
from scpatch.kbuild import messages
from scpatch.kbuild.copies import Copy, make
from scpatch.kbuild.record import Record
from scpatch.kbuild.settings import Settings, parse
from scpatch.options import UsageError


class Values(NamedTuple):
    words: tuple[str, ...]


def run(values: Values) -> Exit:
    """Options as for `scpatch-ld`, then a module, which is rewritten where it lies, or an archive
    for vmlinux and the name of its rewritten copy.

    Returns the exit code. Raises ScpatchError; nothing is written then.
    """
    files = [word for word in values.words if not word.startswith("-")]
    settings = parse([word for word in values.words if word.startswith("-")])
    if len(files) == 1 and not settings.prelink:
        return _module(files[0], settings)
    if len(files) == 2 and not settings.prelink:
        return _archive(files[0], Path(files[1]), settings)
    raise UsageError(
        f"wrong arguments: {' '.join(values.words)}",
        file="scpatch kbuild step",
        hint="name a module, or an archive and its copy; --prelink is for scpatch-ld",
    )


def _module(name: str, settings: Settings) -> Exit:
    from scpatch.rewriter import plan_file, write

    plan = plan_file(Path(name), settings.module_options)
    messages.refused([plan], settings)
    if plan.outputs:
        write([plan], allow_refused=settings.warn_only)
        messages.rewritten(name)
        messages.summary(plan)
    return Exit.OK


def _archive(source: str, target: Path, settings: Settings) -> Exit:
    """The copy is there afterwards, also where nothing had to be rewritten: the link names it."""
    from scpatch.kbuild.plans import plan_copy

    record = Record(target.with_name(f".tmp_{target.name}.json"), settings.key)
    planned = plan_copy(source, target, settings.image_options, record.read())
    if planned is None:
        raise UsageError(f"{source}: neither an archive nor an object")
    messages.refused([planned.plan], settings)
    make(Copy(source, str(target), planned, record), settings)
    messages.summary(planned.plan, kept=planned.kept)
    return Exit.OK
