"""A write of rewritten files in a child process, with strace to disturb its system calls."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from scpatch.errors import ScpatchError
from scpatch.rewriter import FilePlan, Options, plan_file, write
from tests.tools import FIXTURES

FINE, REFUSED_TO_WRITE, OTHER_ERROR = 0, 1, 2
"""The exit codes of a child: done, ended by a ScpatchError, ended by anything else."""


class Call(NamedTuple):
    """A system call of the write path."""

    name: str
    ordinal: int
    """1 for the first call of that name."""


class Files(NamedTuple):
    """Objects in a folder of their own, and what becomes of them. In another folder, each has a
    hard link, which keeps the old file, and a symbolic link, by which it is rewritten."""

    folder: Path
    links: Path
    old: dict[str, bytes]
    new: dict[str, bytes]
    plans: list[FilePlan]
    backup: bool

    def check(self) -> set[str]:
        """Asserts that every file is old or new, and whole; returns what else is there."""
        there = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        for name, old in self.old.items():
            assert there.pop(name) in (old, self.new[name]), name
            assert there.pop(f"{name}.orig", old) == old, name
            assert (self.links / f"hard.{name}").read_bytes() == old
            assert (self.links / name).is_symlink()
        assert len(list(self.links.iterdir())) == 2 * len(self.old)
        return set(there)

    def are_old(self) -> bool:
        return all((self.folder / name).read_bytes() == old for name, old in self.old.items())

    def write(self) -> None:
        write(self.plans, backup=self.backup, allow_refused=True)


def make_files(folder: Path, *names: str, backup: bool = False) -> Files:
    """Copies of fixtures in a new folder, and the plan to rewrite them in place."""
    folder.mkdir()
    links = folder.with_name(f"{folder.name}.links")
    links.mkdir()
    old = {name: (FIXTURES / name).read_bytes() for name in names}
    for name, content in old.items():
        (folder / name).write_bytes(content)
        (links / f"hard.{name}").hardlink_to(folder / name)
        (links / name).symlink_to(folder / name)
    plans = [plan_file(links / name, Options()) for name in names]
    return Files(folder, links, old, _rewritten(folder, names), plans, backup)


def _rewritten(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    new = {}
    for name in names:
        target = folder.with_name(f"{folder.name}.{name}.new")
        plan = plan_file(folder / name, Options(), target)
        write([plan], allow_refused=True)
        new[name] = target.read_bytes()
        target.unlink()
    return new


def start(action: Callable[[], None], *, stopped: bool = False) -> int:
    """Runs `action` in a child process; with `stopped`, from a SIGCONT on. Returns its pid."""
    child = os.fork()
    if child == 0:
        status = OTHER_ERROR
        try:
            if stopped:
                os.kill(os.getpid(), signal.SIGSTOP)
            action()
            status = FINE
        except ScpatchError:
            status = REFUSED_TO_WRITE
        finally:
            os._exit(status)
    return child


def traced(action: Callable[[], None], log: Path, *options: str) -> int:
    """Runs `action` in a child under strace; returns its exit code, negative for a signal."""
    child = start(action, stopped=True)
    os.waitpid(child, os.WUNTRACED)
    command = ["strace", "-f", "-o", str(log), *options, "-p", str(child)]
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE) as strace:
        assert strace.stderr is not None
        line = strace.stderr.readline()
        assert "attached" in line, line + strace.stderr.read()
        os.kill(child, signal.SIGCONT)
        status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


def calls_of(action: Callable[[], None], log: Path) -> list[Call]:
    """The system calls of `action`, in their order."""
    assert traced(action, log) == FINE
    names = re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE)
    return list(_numbered(names[: names.index("exit_group")]))


def _numbered(names: list[str]) -> Iterator[Call]:
    count: Counter[str] = Counter()
    for name in names:
        count[name] += 1
        yield Call(name, count[name])


def kill_at(call: Call) -> tuple[str, ...]:
    """strace's options to kill the process before it does this call."""
    return "-e", f"trace={call.name}", "-e", f"inject={call.name}:signal=KILL:when={call.ordinal}"


def fail_at(call: Call, error: str) -> tuple[str, ...]:
    """strace's options to let this call fail."""
    return "-e", f"trace={call.name}", "-e", f"inject={call.name}:error={error}:when={call.ordinal}"
