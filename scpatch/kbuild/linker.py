"""What starts a link and what runs the linker."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from scpatch.errors import ScpatchError
from scpatch.kbuild import messages
from scpatch.kbuild.arguments import Command
from scpatch.kbuild.commands import note_link
from scpatch.options import UsageError
from scpatch.program import Stopped

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # what `signal` wraps, without its enums: they take time to make

_STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def start(command: Command, *, note: bool) -> None:
    """Removes the output of an earlier link and notes, if wanted, that there is another link."""
    _remove_output(command)
    if note:
        note_link(command.output)


def _remove_output(command: Command) -> None:
    """Removes the output of an earlier link before a new one starts, as GNU ld does: if this one
    fails or is refused, or the process is killed, nobody can take the old file for its result.

    Raises UsageError if the output is also an input, and SCP110 if it is no regular file or cannot
    be removed; it is still there then.
    """
    try:
        status = os.lstat(command.output)
    except OSError:
        return  # there is none; or the linker tells what is wrong
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise ScpatchError("SCP110", "cannot write: it is not a regular file", file=command.output)
    if any(_is_file(name, status) for name in command.files):
        raise UsageError("the output of the link is also an input", file=command.output)
    try:
        os.unlink(command.output)
    except OSError as error:
        from scpatch.files.output import cannot_write

        raise cannot_write(Path(command.output), error) from error


def _is_file(name: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(name), status)
    except OSError:
        return False


def become(command: Command) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(command.linker, [command.linker, *command.arguments])
    except OSError as error:
        raise messages.no_linker(command.linker, error.strerror or "") from error


def spawn(command: Command) -> int:
    """The linker's exit status, as a shell gives it. Raises ScpatchError if the linker cannot run,
    and Stopped on a signal, after passing it to the linker.

    The signals are blocked and waited for: a signal just before waitpid(2) would otherwise take
    effect only after the linker is done.
    """
    stopping = {number for number in _STOPPING if signal.getsignal(number) != signal.SIG_IGN}
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
