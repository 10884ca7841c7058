"""Whole processes, timed side by side: start-up included, in rounds, each command once a round."""

import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
SLOW = 4.0  # seconds; a command that takes longer is measured in three rounds only
LIMIT = 90.0  # seconds; a command that takes longer is killed, and has no figure


@dataclass(frozen=True, slots=True)
class Command:
    """What to run; `output` is the file that it writes, removed between the rounds."""

    name: str
    argv: tuple[str, ...]
    output: Path | None = None
    limit: float | None = None
    """Seconds after which it is killed; LIMIT where there is none."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a command: wall time and processor time in seconds, peak memory in bytes."""

    seconds: float
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Result:
    """The runs of a command, or why there are none."""

    name: str
    samples: tuple[Sample, ...] = ()
    failure: str = ""

    @property
    def median(self) -> float:
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def cpu(self) -> float:
        """The median processor time, user and system: what a busy machine changes least."""
        return statistics.median(sample.cpu for sample in self.samples)

    @property
    def memory(self) -> int:
        return max(sample.memory for sample in self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest round."""
        seconds = [sample.seconds for sample in self.samples]
        return min(seconds), max(seconds)


class CommandError(Exception):
    """A command took too long, or ended with a status other than 0."""


def run_once(command: Command) -> Sample:
    """Runs one process and waits for its end; raises CommandError.

    The peak is that of getrusage(2), which counts the process that starts another one until the
    exec: it is never less than what this runner itself uses (`memory_floor`).
    """
    if command.output:
        command.output.unlink(missing_ok=True)
    environment = _environment()
    limit = command.limit or LIMIT
    # Pages that the command before left to be written would be written at the cost of this one.
    os.sync()
    with tempfile.TemporaryFile() as errors:
        actions = [
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
        ]
        start = time.perf_counter()
        pid = os.posix_spawnp(command.argv[0], command.argv, environment, file_actions=actions)
        timer = threading.Timer(limit, os.kill, (pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(pid, 0)
        finally:
            timer.cancel()
        seconds = time.perf_counter() - start
        if os.WIFSIGNALED(status) and seconds > limit:
            raise CommandError(f"takes more than {limit:.0f} s")
        if status:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            code = os.waitstatus_to_exitcode(status)
            raise CommandError(f"exit status {code}: {' '.join(said)[:200]}")
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _environment() -> dict[str, str]:
    """As a user has it: with bytecode cached, which a set-up for development may forbid."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def side_by_side(commands: Sequence[Command], rounds: int) -> list[Result]:
    """All commands in turn, in another order each round, after one round that does not count."""
    order = random.Random(1)
    samples: dict[str, list[Sample]] = {command.name: [] for command in commands}
    wanted = dict.fromkeys(samples, rounds)
    failures: dict[str, str] = {}
    for number in range(rounds + 1):
        for command in order.sample(commands, len(commands)):
            name = command.name
            if name in failures or len(samples[name]) >= wanted[name]:
                continue
            try:
                sample = run_once(command)
            except CommandError as failed:
                failures[name] = str(failed)
                continue
            finally:
                if command.output:
                    command.output.unlink(missing_ok=True)
            if number > 0:
                samples[name].append(sample)
            elif sample.seconds > SLOW:
                wanted[name] = 3
    return [Result(name, tuple(runs), failures.get(name, "")) for name, runs in samples.items()]


def memory_floor() -> int:
    """The peak in bytes that any command has at least, however small."""
    return run_once(Command("true", ("true",))).memory
