"""The links of vmlinux: they get rewritten copies of the inputs that have call sites."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scpatch.errors import ScpatchError
from scpatch.kbuild import copies, messages
from scpatch.kbuild.arguments import Command
from scpatch.kbuild.linker import spawn, start
from scpatch.kbuild.locking import locked
from scpatch.kbuild.record import NOTHING, Known, RecordFile, identities
from scpatch.kbuild.settings import Settings

_SCRIPT = """/* SPDX-License-Identifier: GPL-2.0 OR MIT */
SECTIONS {
  .text 0 : {
    *(.text.hot .text.hot.* .text .text.fixup .text.unlikely .text.unlikely.*
      .fixup __ftr_alt_* .ref.text)
  }
}
"""
"""The input sections that arch/powerpc/kernel/vmlinux.lds.S puts around `.text`; not `.text.head64`
and the like, which have their own places in the image."""


def link_image(command: Command, settings: Settings, *, note: bool) -> Command | int:
    """Makes or finds the copies of the inputs and links them. Returns the linker's exit status; or
    the link, if there is nothing to do after it."""
    options = settings.image_options
    folder = Path(os.path.dirname(command.output)) / copies.FOLDER
    for name in command.files:
        if name.startswith("@"):
            raise ScpatchError(
                "SCP109",
                "a response file in a link of vmlinux: its inputs would not be rewritten",
                file=name,
                hint="name the inputs on the command line",
            )
    start(command, note=note)
    with locked(folder):
        if settings.prelink:
            command, status = _prelink(command, folder)
            if status:
                return status
        sources = [name for name in command.files if _has_content(name)]
        whole, first = not command.renames, command.is_first
        inputs = copies.prepare(sources, folder, settings, whole=whole, first=first)
        messages.check([entry.planned.plan for entry in inputs if entry.planned], settings)
        for entry in inputs:
            copies.make(entry, settings)
        for entry in inputs:
            if entry.planned and entry.planned.changed:
                plan, _, _, skipped = entry.planned
                messages.rewritten(entry.source, plan, settings, skipped=skipped)
            elif entry.planned:
                messages.unchanged(entry.planned.plan)
    command = command.with_inputs({entry.source: entry.path for entry in inputs})
    if messages.verbose():
        print("+ scpatch", f"--strategy={options.strategy}", file=sys.stderr)
        print("+", command.linker, *command.arguments, file=sys.stderr)
    if all(entry.path == entry.source for entry in inputs) and not settings.prelink:
        return command
    status = spawn(command)
    if not status:
        _check_head(Path(command.output))
    return status


def _check_head(image: Path) -> None:
    """Removes an image that would not boot. Raises ScpatchError SCP403."""
    from scpatch.kbuild.head import check_head

    try:
        check_head(image)
    except ScpatchError:
        image.unlink(missing_ok=True)
        raise


def _has_content(name: str) -> bool:
    """Whether to look at an input. The linker reports one that is missing."""
    try:
        return os.stat(name).st_size > 0
    except OSError:
        return False


def _prelink(command: Command, folder: Path) -> tuple[Command, int]:
    """The link of vmlinux with one object instead of vmlinux.a (`--prelink`), and the linker's exit
    status; if that is not 0, there is no such object. It serves until a member of the archive
    changes.

    Kbuild's own vmlinux.o cannot be linked on powerpc. `ld -r` moves the alternatives of the
    feature sections (`__ftr_alt_*`, arch/powerpc/include/asm/feature-fixups.h) too far from the
    code that they replace: their REL14 branches back do not reach. Here they stay beside it.
    """
    name = next((name for name in command.files if os.path.basename(name) == "vmlinux.a"), None)
    if name is None:
        return command, 0
    target = folder / "vmlinux.o"
    record = RecordFile(folder / ".tmp_prelink.json", f"prelink {command.linker}\n{_SCRIPT}")
    if not record.read(NOTHING).holds():
        from scpatch.kbuild.functions import sources_of

        record.remove()
        sources = sources_of(name)
        script = folder / ".tmp_prelink.lds"
        script.write_text(_SCRIPT)
        emulation = _emulation(command.arguments)
        arguments = ("-r", *emulation, "-T", str(script), "-o", str(target))
        whole = ("--whole-archive", name, "--no-whole-archive")
        if status := spawn(Command(command.linker, (*arguments, *whole))):
            return command, status
        record.write(Known(sources, identities([str(target)]), {}, False, {}))
    return command.with_inputs({name: str(target)}), 0


def _emulation(arguments: Sequence[str]) -> Iterator[str]:
    """What a link says of the byte order of its output."""
    for position, argument in enumerate(arguments):
        if argument in ("-EL", "-EB") or argument.startswith("-melf"):
            yield argument
        elif argument == "-m":
            yield from arguments[position : position + 2]
