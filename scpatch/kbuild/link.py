"""The two links of a kernel build that scpatch takes part in."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from scpatch.errors import Exit, ScpatchError
from scpatch.kbuild import copies, messages
from scpatch.kbuild.arguments import Command, Link, read
from scpatch.kbuild.commands import note_link
from scpatch.kbuild.record import NOTHING, Known, RecordFile, identities
from scpatch.kbuild.settings import Settings, split
from scpatch.options import UsageError
from scpatch.program import Stopped

_STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

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


def run(words: Sequence[str]) -> int:
    """Links as `words` say; the options of SCPATCH_FLAGS precede those of the command line.

    Returns the exit status. Raises ScpatchError; then there is no output.
    """
    settings, rest = split(words, os.environ.get("SCPATCH_FLAGS", ""))
    if not rest:
        raise UsageError("no linker on the command line", file="scpatch-ld", hint=messages.USAGE)
    command = read(rest)
    if command.saves_command:
        note_link(command.output)
    return link(command, settings)


def link(command: Command, settings: Settings) -> int:
    """Does a link; one that scpatch takes no part in, as the linker does it. As for `run`."""
    match command.link:
        case Link.VMLINUX:
            return _vmlinux(command, settings)
        case Link.MODULE:
            return _module(command, settings)
        case Link.UNKNOWN:
            raise UsageError(
                "it is linked like a kernel, but not by arch/powerpc/kernel/vmlinux.lds, so its "
                "calls would not be rewritten",
                file=command.output,
                hint="scpatch is for powerpc kernels; link others without it",
            )
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
                messages.rewritten(entry.source, plan, skipped=skipped)
            elif entry.planned:
                messages.unchanged(entry.planned.plan)
    command = command.with_inputs({entry.source: entry.path for entry in inputs})
    if messages.verbose():
        print("+ scpatch", f"--strategy={settings.image_options.strategy}", file=sys.stderr)
        print("+", command.linker, *command.arguments, file=sys.stderr)
    if all(entry.path == entry.source for entry in inputs) and not settings.prelink:
        return _become(command)
    status = _spawn(command)
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


def _module(command: Command, settings: Settings) -> int:
    """Links to a temporary name and puts the rewritten result in place."""
    from scpatch.files.inputs import open_input
    from scpatch.rewriter import FilePlan, outputs_of, plan_object, write

    options = settings.module_options
    target = Path(command.output)
    temporary = target.with_name(f".tmp_{target.name}")
    target.unlink(missing_ok=True)
    try:
        if status := _spawn(command.with_output(str(temporary))):
            return status
        with open_input(temporary) as source:
            entry, layout = plan_object(source.data, command.output, options)
            outputs = tuple(outputs_of(source, layout, target)) if layout else ()
        plan = FilePlan(target, (entry,), outputs)
        messages.check([plan], settings)
        if outputs:
            check = settings.check_of(options)
            write([plan], allow_refused=settings.warn_only, sync=settings.sync, check=check)
            messages.rewritten(command.output, plan)
        else:
            messages.unchanged(plan)
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
        raise messages.no_linker(command.linker, error.strerror or "") from error


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
        if status := _spawn(Command(command.linker, (*arguments, *whole))):
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


def _spawn(command: Command) -> int:
    """The linker's exit status, as a shell gives it. Raises ScpatchError if the linker cannot run,
    and Stopped on a signal, after passing it to the linker.

    The signals are blocked and waited for: a signal just before waitpid(2) would otherwise take
    effect only after the linker is done.
    """
    stopping = {number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*stopping, signal.SIGCHLD})
    try:
        words = [command.linker, *command.arguments]
        try:
            child = os.posix_spawnp(command.linker, words, os.environ, setsigmask=before)
        except OSError as error:
            raise messages.no_linker(command.linker, error.strerror or "") from error
        while (number := signal.sigwait({*stopping, signal.SIGCHLD})) == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        os.kill(child, number)
        os.waitpid(child, 0)
        raise Stopped(number)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
