"""Coverage-guided fuzzing of everything that reads a file: `python -m tests.fuzz.bytes`.

Needs the extra `fuzz` (atheris). Two workers share a corpus. Writes faults to a folder, and prints
the table of docs/explanation/reliability.md. Exit status 1: there was a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

WORKERS = 2
_RESTARTS = 100
"""Deaths of workers that a run outlives."""


@dataclass
class Total:
    """What all workers have counted."""

    executions: int = 0
    seconds: float = 0.0
    times: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, path: Path) -> int:
        """Adds the counts of a worker; returns how many executions it has had."""
        if not path.exists():
            return 0
        figures = json.loads(path.read_text())
        self.executions += figures["executions"]
        self.seconds = max(self.seconds, figures["seconds"])
        self.times = max(self.times, figures["times"])
        self.outcomes.update(figures["outcomes"])
        self.faults.update(figures["faults"])
        return int(figures["executions"])


def run(executions: int, seed: int, out: Path, workers: int = WORKERS) -> Total:
    """Runs the workers until all executions are done; one that dies is followed by another."""
    out.mkdir(parents=True, exist_ok=True)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where files cost least
    running: dict[int, tuple[subprocess.Popen[bytes], int]] = {}
    with tempfile.TemporaryDirectory(prefix="scpatch-fuzz-", dir=memory) as folder:
        try:
            return _all(executions, seed, out, workers, folder, running)
        finally:
            for process, _ in running.values():
                process.kill()
                process.wait()


def _all(
    executions: int,
    seed: int,
    out: Path,
    workers: int,
    folder: str,
    running: dict[int, tuple[subprocess.Popen[bytes], int]],
) -> Total:
    total = Total()
    left = {
        index: executions // workers + (index < executions % workers) for index in range(workers)
    }
    number = 0
    while any(count > 0 for count in left.values()) and number < _RESTARTS:
        for slot, count in left.items():
            if slot not in running and count > 0:
                running[slot] = _start(out, folder, number, count, seed + number), number
                number += 1
                time.sleep(3 if not (out / "corpus").exists() else 0)
        for slot, (process, its) in list(running.items()):
            if process.poll() is not None:
                done = total.add(out / f"counts-{its}.json")
                if process.returncode:
                    total.faults[f"a worker ended with status {process.returncode}"] += 1
                if not done:
                    raise SystemExit((out / f"worker-{its}.log").read_text(errors="replace"))
                left[slot] -= done if process.returncode else left[slot]
                del running[slot]
        time.sleep(0.5)
    return total


def _start(out: Path, folder: str, number: int, runs: int, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.fuzz.worker", str(out), str(number), str(runs)]
    with (out / f"worker-{number}.log").open("wb") as log:
        command.append(str(seed % 2**31 or 1))
        environment = os.environ | {"TMPDIR": folder}
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def replay(path: Path) -> str:
    """Runs a stored input in this process, at full speed; empty if all is well."""
    import traceback

    from tests.fuzz import seeds
    from tests.fuzz.exercise import NUMBERS, Exercise, ended_after, one_way

    data = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="scpatch-fuzz-") as name:
        folder = Path(name)
        seeds.archives(folder)
        pairs = list(seeds.rewritten().values())
        number = data[0] % NUMBERS
        partner = pairs[data[1] % len(pairs)][number == NUMBERS - 1]
        figures = ""
        for memory in (False, True):
            exercise = Exercise(folder, memory=memory)
            one_way(exercise, pairs[0][0], number, pairs[0][1])  # loads what is needed
            try:
                with ended_after(30):
                    one_way(exercise, data[2:], number, partner)
            except Exception:
                figures = figures or traceback.format_exc()
    return figures


def confirmed(folder: Path) -> dict[Path, str]:
    """The stored inputs that fail again, each in a new process, and their last lines."""
    figures = {}
    for path in sorted(folder.glob("*[!t]")):
        command = [sys.executable, "-m", "tests.fuzz.bytes", "--replay", str(path)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
            figures[path] = (said or f"status {done.returncode}").splitlines()[-1]
    return figures


def table(total: Total, faults: dict[Path, str], workers: int, minutes: float) -> str:
    """Markdown for docs/explanation/reliability.md."""
    rows = [
        ("executions", f"{total.executions:,}"),
        ("workers, minutes", f"{workers}, {minutes:.0f}"),
        ("longest step, instrumented", f"{total.seconds:.2f} s"),
        ("most memory of a step, without 1 MiB", f"{total.times:.1f} times the input"),
        *((f"came out as: {name}", f"{count:,}") for name, count in total.outcomes.most_common()),
        ("kinds of faults", f"{len(faults)}"),
    ]
    return "\n".join(["| What | Figure |", "|---|---:|", *(f"| {a} | {b} |" for a, b in rows)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.bytes", description=__doc__)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=2022)
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="where to store it all")
    parser.add_argument("--replay", type=Path, nargs="+", help="run stored inputs instead")
    chosen = parser.parse_args()
    if chosen.replay:
        texts = [text for text in map(replay, chosen.replay) if text]
        print("\n".join(texts))
        return bool(texts)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the workers end too
    started = time.monotonic()
    total = run(chosen.executions, chosen.seed, chosen.out)
    minutes = (time.monotonic() - started) / 60
    faults = confirmed(chosen.out / "faults")
    faults |= dict.fromkeys(chosen.out.glob("native-*"), "a crash or a hang outside of Python")
    print(table(total, faults, WORKERS, minutes))
    for path, text in faults.items():
        print(f"{path}: {text}", file=sys.stderr)
    for kind, count in total.faults.most_common():
        print(f"{count} times: {kind}", file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
