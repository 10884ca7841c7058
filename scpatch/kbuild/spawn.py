"""Runs the linker, and ends it when the build is stopped."""

from __future__ import annotations

import os
import signal

from scpatch.errors import ScpatchError
from scpatch.kbuild.arguments import Command
from scpatch.program import Stopped

_STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def run(command: Command) -> int:
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
            raise cannot_run(command.linker, error) from error
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


def cannot_run(linker: str, error: OSError) -> ScpatchError:
    return ScpatchError(
        "SCP401",
        f"cannot run the linker: {error.strerror}",
        file=linker,
        hint='name the real linker: make LD="scpatch-ld powerpc64le-linux-gnu-ld"',
    )
