"""One process of the fuzzer of bytes: libFuzzer through atheris, with mutations by field.

An input is a byte that chooses the mode, one that chooses an object to be proven beside it, and the
file. Faults do not end the process: it stores their inputs and continues.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["scpatch"], enable_loader_override=False):
    from tests.fuzz import seeds
    from tests.fuzz.exercise import NUMBERS, Exercise, ended_after, one_way
    from tests.fuzz.findings import Findings
    from tests.fuzz.mutate import at_random

HEAD = 2
MOST_BYTES = 65536
_HARD = 10.0
"""Seconds after which an execution is ended: ten times what is allowed, as this is instrumented."""
_MEMORY_EVERY = 40
"""Executions to one whose memory is measured, which takes four times as long."""
_SAVE_EVERY = 500


class Worker:
    """Runs inputs and counts what came out."""

    def __init__(self, out: Path, number: int, runs: int) -> None:
        self._runs = runs
        self._counts = out / f"counts-{number}.json"
        folder = Path(tempfile.mkdtemp(prefix="scpatch-fuzz-"))
        self._starts = [*seeds.objects().values(), *seeds.archives(folder).values()]
        self._pairs = list(seeds.rewritten().values())
        self._exercise = Exercise(folder)
        self._findings = Findings(out / "faults")
        self._outcomes: Counter[str] = Counter()
        self._done = 0

    def corpus(self, folder: Path) -> None:
        """Writes the inputs to begin with: each file in each mode, and pairs for the proof."""
        folder.mkdir(exist_ok=True)
        made = [bytes([mode, 0]) + data for data in self._starts for mode in range(NUMBERS - 2)]
        made.append(b"\1\0" + seeds.large(self._exercise.folder))
        for index, (before, after) in enumerate(self._pairs):
            made.append(bytes([NUMBERS - 2, index]) + after)
            made.append(bytes([NUMBERS - 1, index]) + before)
        for index, data in enumerate(made):
            (folder / f"start-{index}").write_bytes(data)

    def warm_up(self) -> None:
        """Loads all code, while what is imported is instrumented, and not measured."""
        for data in self._starts:
            for number in range(NUMBERS):
                # The run itself meets a fault here again.
                with suppress(Exception), ended_after(_HARD):
                    one_way(self._exercise, data, number, data)

    def run(self, data: bytes) -> None:
        self._done += 1
        self._exercise.memory = self._done % _MEMORY_EVERY == 0
        if len(data) > HEAD:
            pair = self._pairs[data[1] % len(self._pairs)]
            number = data[0] % NUMBERS
            try:
                with ended_after(_HARD):
                    partner = pair[number == NUMBERS - 1]
                    outcome = one_way(self._exercise, data[HEAD:], number, partner)
            except Exception as error:
                self._findings.add(error, data)
                outcome = "a fault"
            self._outcomes[outcome] += 1
        if self._done % _SAVE_EVERY == 0 or self._done == self._runs:
            self._save()

    def _save(self) -> None:
        figures = {
            "executions": self._done,
            "outcomes": self._outcomes,
            "faults": self._findings.kinds,
            "seconds": self._exercise.most.seconds,
            "times": self._exercise.most.times,
        }
        self._counts.write_text(json.dumps(figures))

    def mutate(self, data: bytes, most: int, seed: int) -> bytes:
        """Changes fields, now and then the mode, and now and then whatever libFuzzer likes."""
        source = random.Random(seed)
        head, body = data[:HEAD].ljust(HEAD, b"\0"), data[HEAD:]
        kind = source.random()
        if kind < 0.1 or not body:
            body = source.choice(self._starts)
        if kind < 0.3:
            head = bytes([source.randrange(NUMBERS), source.randrange(256)])
        elif kind < 0.4:
            body = bytes(atheris.Mutate(body, most - HEAD))
        else:
            body = at_random(body, source)
        return (head + body)[:most]


def main() -> None:
    out, number, runs, seed, *rest = sys.argv[1:]
    folder = Path(out)
    worker = Worker(folder, int(number), int(runs))
    corpus = folder / "corpus"
    if not corpus.exists():
        worker.corpus(corpus)
    with atheris.instrument_imports(include=["scpatch"], enable_loader_override=False):
        worker.warm_up()
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={MOST_BYTES + HEAD}", "-timeout=60"]
    options += ["-rss_limit_mb=2048", "-len_control=0", f"-artifact_prefix={folder}/native-"]
    options += ["-print_final_stats=1", *rest, str(corpus)]
    atheris.Setup([sys.argv[0], *options], worker.run, custom_mutator=worker.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
