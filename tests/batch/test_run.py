"""Work on many items: order, errors, workers that die."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from scpatch import batch
from scpatch.batch.processes import processes
from scpatch.errors import RefusedError, ScpatchError
from scpatch.options import UsageError
from scpatch.rewriter import Options


def _slow_first(item: int) -> tuple[int, int]:
    time.sleep(0.2 if item == 0 else 0)
    return item, os.getpid()


def _die(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.fixture(params=["this", "threads", "processes"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    if request.param == "this":
        yield None
    elif request.param == "threads":
        with ThreadPoolExecutor(2) as threads:
            yield threads
    else:
        with processes(2) as two:
            yield two


def test_results_come_in_the_order_of_the_items(executor: Executor | None) -> None:
    seen: list[object] = []
    results = list(batch.run(_slow_first, range(200), executor, progress=seen.append))
    assert [item for item, _ in results] == list(range(200)) == seen


def test_processes_share_the_work() -> None:
    with processes(2) as two:
        workers = {pid for _, pid in batch.run(_slow_first, range(200), two)}
    assert len(workers) == 2
    assert os.getpid() not in workers


def test_a_worker_that_dies_is_an_error() -> None:
    with processes(2) as two, pytest.raises(ScpatchError, match="ended before its work was done"):
        list(batch.run(_die, range(200), two))


def _write_slowly(path: Path) -> None:
    path.with_suffix(".begun").touch()
    time.sleep(1)
    path.touch()


def test_nothing_goes_on_after_a_shutdown(tmp_path: Path) -> None:
    with processes(2) as two:
        two.submit(_write_slowly, tmp_path / "file")
        while not os.listdir(tmp_path):
            time.sleep(0.01)
        two.shutdown(cancel_futures=True)
    time.sleep(1.2)
    assert os.listdir(tmp_path) == ["file.begun"]


@pytest.mark.parametrize(
    ("wanted", "items", "used"),
    [(None, 1, False), (None, batch.WORTHWHILE - 1, False), (8, 1, False), (2, 2, True)],
)
def test_few_files_start_no_process(wanted: int | None, items: int, used: bool) -> None:
    with batch.workers(wanted, items) as executor:
        assert (executor is not None) == used


_PARENT = """
import os, sys, time
from scpatch.batch.processes import processes
with processes(2) as two:
    print(*(two.submit(os.getpid).result() for _ in range(9)), flush=True)
    two.submit(time.sleep, 60), two.submit(time.sleep, 60)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = set(map(int, parent.stdout.readline().split()))
    assert workers
    time.sleep(0.2)
    parent.send_signal(number)
    parent.wait()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/fd").exists() and _runs(pid) for pid in workers):
        assert time.monotonic() < end, "a worker outlives its parent"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "error",
    [
        ScpatchError("SCP101", "what", file="x.o", where=".text+0x4", hint="do"),
        RefusedError("SCP135", "1 call site was refused"),
        UsageError("wrong", hint="do"),
    ],
)
def test_errors_reach_another_process(error: ScpatchError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again), again.status) == (str(error), vars(error), error.status)


def test_options_reach_another_process() -> None:
    options = Options("paca", trampolines=["x*"], hoist="never", unmark=True)
    again = pickle.loads(pickle.dumps(options))
    assert again == options
    assert type(again) is Options
