"""The benchmark measures what it says, notices a failure, and can tell a missed target."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import measure
from tests.bench.generate import main as generate
from tests.bench.installed import install
from tests.bench.measure import MIB, Command, CommandError, Result, Sample, run_once, side_by_side
from tests.bench.report import Target, growth, table
from tests.bench.tools import all_commands

ROOT = Path(__file__).resolve().parents[2]


def python(name: str, code: str, *arguments: str | Path, output: Path | None = None) -> Command:
    return Command(name, (sys.executable, "-c", code, *map(str, arguments)), output)


def result(name: str, mebibytes: int, *seconds: float) -> Result:
    return Result(name, tuple(Sample(second, second / 2, mebibytes * MIB) for second in seconds))


def test_time_and_memory_are_those_of_the_process() -> None:
    code = "import time; block = b'x' * (200 << 20); time.sleep(0.3)"
    sample = run_once(python("big", code))
    assert sample.seconds >= 0.3
    # The kernel counts what the forking process held as well, so the small one is measured by a
    # process of its own.
    small = (
        "from tests.bench.measure import Command, run_once\n"
        "print(run_once(Command('true', ('true',))).memory)"
    )
    done = subprocess.run(
        [sys.executable, "-c", small], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert int(done.stdout) < 100 * MIB
    assert sample.memory >= 200 * MIB


def test_processor_time_leaves_out_waiting() -> None:
    waits = run_once(python("waits", "import time; time.sleep(1)"))
    works = run_once(python("works", "import time\nwhile time.process_time() < 0.6: pass"))
    assert waits.cpu < 0.5 < works.cpu <= works.seconds


def test_a_command_that_fails_gives_its_last_words() -> None:
    code = "import sys; print('first', file=sys.stderr); sys.exit('no space left')"
    with pytest.raises(CommandError, match=r"^exit status 1: no space left$"):
        run_once(python("fails", code))


def test_a_command_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LIMIT", 0.3)
    with pytest.raises(CommandError, match="takes more than"):
        run_once(Command("sleep", ("sleep", "30")))


def test_rounds_interleave_and_start_from_a_fresh_output(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    # Fails where the output is there already.
    code = "import sys; open(sys.argv[1], 'a').write(sys.argv[2]); open(sys.argv[3], 'x')"
    commands = [python(name, code, log, name, out, output=out) for name in "abc"]
    results = side_by_side(commands, 5)
    assert [len(result.samples) for result in results] == [5, 5, 5]
    assert not out.exists()
    rounds = [log.read_text()[start : start + 3] for start in range(0, 18, 3)]
    assert {"".join(sorted(turns)) for turns in rounds} == {"abc"}
    assert len(set(rounds)) > 1


def test_a_failing_command_has_no_figure_and_does_not_stop_the_others() -> None:
    results = side_by_side([python("bad", "exit(3)"), python("good", "pass")], 2)
    assert results[0].failure == "exit status 3: "
    assert results[0].samples == ()
    assert len(results[1].samples) == 2


def test_a_target_is_missed_by_time_by_memory_or_by_failure() -> None:
    base = result("cp", 3, 0.9, 1.0, 1.1)
    target = Target("150M", "own", "cp", 3, 100 * MIB)
    for seconds, memory, holds in ((2.6, 100, True), (2.8, 50, False), (1.0, 101, False)):
        own = result("own", memory, seconds)
        held, text = target.check([base, own])
        assert (held, "does not hold" in text) == (holds, not holds)
    held, text = target.check([base, Result("own", failure="exit status 1: broken")])
    assert not held
    assert "broken" in text


def test_the_tables_show_ratios_and_why_a_figure_is_missing() -> None:
    results = [
        result("own", 50, 0.3, 0.2, 0.4),
        result("cp", 3, 0.1, 0.1, 0.1),
        Result("slow", failure="takes more than 90 s"),
    ]
    lines = table(results, "cp", 20 * MIB)
    assert lines[2:] == [
        "| cp | 0.100 s | 0.100 s to 0.100 s | 1.00 | 50.0 ms | < 20 MiB | 3 |",
        "| own | 0.300 s | 0.200 s to 0.400 s | 2.00 | 0.150 s | 50 MiB | 3 |",
        "| slow | - | takes more than 90 s | - | - | - | - |",
    ]
    rows = [(1000, result("a", 9, 0.2)), (3000, result("b", 9, 0.6))]
    assert growth(rows, "relocations")[-1].endswith(": 200.0000 microseconds each.")


@pytest.fixture(scope="module")
def small_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "small.o"
    generate(["--size", "6K", str(path)])
    return path


def test_each_command_does_its_work(small_object: Path, tmp_path: Path) -> None:
    said = {}
    for command in all_commands(small_object, tmp_path, install(tmp_path)):
        done = subprocess.run(command.argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command.name, done.stderr)
        said[command.name] = done.stdout
        if command.output:
            assert command.output.read_bytes()[:4] == b"\x7fELF"
    assert said["pyelftools scan"] == "1\n"
    assert "__SCT__tp_func_event_000" in said["scpatch scan --no-lines"]
