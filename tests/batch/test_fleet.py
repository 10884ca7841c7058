"""Work by the workers of a real scheduler of dask, which are lost in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from scpatch import __version__, batch
from scpatch.batch import fleet
from scpatch.errors import ScpatchError
from tests.tools import FIXTURES, ROOT

has_workers = fleet._has_workers


class Cluster(NamedTuple):
    address: str
    workers: list[subprocess.Popen[bytes]]


def dask(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A program of dask, with the tests of this checkout to import. The work of two lost workers
    is not given to a third."""
    environment = {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    with (folder / "dask.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words, "--no-dashboard"],
            cwd=folder,
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )


class Scheduler(NamedTuple):
    address: str
    process: subprocess.Popen[bytes]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Scheduler]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = dask(tmp_path, "scheduler", "--host", "127.0.0.1", "--port", str(port))
    try:
        yield Scheduler(f"tcp://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler(started: Scheduler) -> str:
    return started.address


@pytest.fixture
def cluster(scheduler: str, tmp_path: Path) -> Iterator[Cluster]:
    """Two workers, each a process of its own that nobody starts again."""
    words = ("worker", scheduler, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
    workers = [dask(tmp_path, *words) for _ in range(2)]
    try:
        with fleet.fleet(scheduler) as executor:
            client = executor._client  # type: ignore[attr-defined]
            client.wait_for_workers(2, timeout=60)
        yield Cluster(scheduler, workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _where(item: Path) -> tuple[str, int]:
    time.sleep(0.01)
    return item.read_text(), os.getpid()


def _kill_once(item: Path) -> tuple[str, int]:
    """Kills the worker that gets the third item first."""
    if item.name == "3":
        try:
            os.mkdir(item.with_name("killed"))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return _where(item)


def _kill_always(item: Path) -> None:
    if item.name == "3":
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files, by paths from the current folder, which no worker has."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for number in range(100):
        Path(str(number)).write_text(f"content {number}")
    return [Path(str(number)) for number in range(100)]


def test_workers_share_the_work_and_results_are_in_order(
    cluster: Cluster, items: list[Path]
) -> None:
    with batch.workers(None, len(items), dask=cluster.address) as executor:
        results = list(batch.run(_where, items, executor))
    assert [text for text, _ in results] == [f"content {number}" for number in range(100)]
    assert {pid for _, pid in results} == {worker.pid for worker in cluster.workers}


def test_the_work_of_a_lost_worker_is_done_by_another(cluster: Cluster, items: list[Path]) -> None:
    with batch.workers(None, len(items), dask=cluster.address) as executor:
        results = list(batch.run(_kill_once, items, executor))
    assert [text for text, _ in results] == [f"content {number}" for number in range(100)]
    assert sorted(worker.poll() is None for worker in cluster.workers) == [False, True]


def test_work_that_ends_each_worker_is_an_error(
    cluster: Cluster, items: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_PATIENCE", 1)
    with (
        batch.workers(None, len(items), dask=cluster.address) as executor,
        pytest.raises(ScpatchError) as error,
    ):
        list(batch.run(_kill_always, items, executor))
    assert error.value.code == "SCP122"


def _write_slowly(item: Path) -> None:
    Path(f"{item}.begun").touch()
    time.sleep(1)
    Path(f"{item}.written").touch()


def test_nothing_goes_on_after_a_shutdown(cluster: Cluster, items: list[Path]) -> None:
    """Work that has begun is waited for, and the rest is not begun."""
    with batch.workers(None, len(items), dask=cluster.address) as executor:
        assert executor is not None
        for item in items[:10]:
            executor.submit(_write_slowly, item)
        while not list(Path().glob("*.begun")):
            time.sleep(0.01)
        executor.shutdown(cancel_futures=True)
        begun, written = (sorted(Path().glob(f"*.{end}")) for end in ("begun", "written"))
        assert 1 <= len(begun) == len(written) < 10
        time.sleep(1.2)
        assert sorted(Path().glob("*.begun")) == begun


def test_a_shutdown_after_the_scheduler_is_lost(
    cluster: Cluster, started: Scheduler, items: list[Path]
) -> None:
    """It hides no error that has led to it."""
    with batch.workers(None, len(items), dask=cluster.address) as executor:
        assert executor is not None
        executor.submit(_write_slowly, items[0])
        started.process.kill()
        started.process.wait()
        executor.shutdown(cancel_futures=True)


def test_a_worker_with_another_version_is_refused(
    cluster: Cluster, items: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_VERSION", "0.0.1")
    with (
        batch.workers(None, len(items), dask=cluster.address) as executor,
        pytest.raises(ScpatchError, match=rf"\) has scpatch {__version__}, not 0\.0\.1") as error,
    ):
        list(batch.run(_where, items, executor))
    assert error.value.code == "SCP123"


def test_a_worker_that_sees_another_file_is_refused(cluster: Cluster, items: list[Path]) -> None:
    """A path that means something else in each process."""
    folder = os.open(".", os.O_PATH)
    path = Path(f"/proc/self/fd/{folder}/0")
    assert path.read_text() == "content 0"
    with (
        batch.workers(None, 1, dask=cluster.address) as executor,
        pytest.raises(ScpatchError, match="sees another file there, or none") as error,
    ):
        list(batch.run(_where, [path], executor))
    os.close(folder)
    assert (error.value.code, error.value.file) == ("SCP123", str(path))


def scpatch(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scpatch", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_scan_prints_what_it_prints_without_workers(cluster: Cluster, tmp_path: Path) -> None:
    """Also the files that cannot be read, and the exit code."""
    shutil.copytree(FIXTURES, tmp_path / "tree")
    words = ("scan", "tree", "--check", "--format", "plain")
    local, by_workers = (
        scpatch(tmp_path, *words, *more) for more in (("--jobs", "1"), ("--dask", cluster.address))
    )
    assert "SCP103" in local.stderr
    assert len(local.stdout.splitlines()) > 100
    for result in ("returncode", "stdout", "stderr"):
        assert getattr(by_workers, result) == getattr(local, result)


def test_a_rewrite_whose_worker_is_killed_while_it_writes(cluster: Cluster, tmp_path: Path) -> None:
    """The same bytes as without workers, and nothing beside them."""
    (tmp_path / "tree").mkdir()
    for number in range(300):
        shutil.copy(FIXTURES / "calls-gcc.o", tmp_path / "tree" / f"{number}.o")
    words = ("rewrite", "tree", "--output-dir")
    local = scpatch(tmp_path, *words, "local", "--jobs", "1")
    assert local.returncode == 0, local.stderr
    names: list[str] = []
    killer = threading.Thread(target=_kill_writer, args=(cluster, tmp_path / "fleet", names))
    killer.start()
    done = scpatch(tmp_path, *words, "fleet", "--dask", cluster.address)
    killer.join()
    assert len(names) >= 10
    assert all(name.startswith(".") for name in names)
    assert cluster.workers[0].poll() == -signal.SIGKILL
    assert (done.returncode, done.stdout) == (local.returncode, local.stdout)
    assert done.stderr == local.stderr.replace("local/", "fleet/")
    contents = [
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("local", "fleet")
    ]
    assert len(contents[0]) == 300
    assert contents[0] == contents[1]


def _kill_writer(cluster: Cluster, folder: Path, names: list[str]) -> None:
    """Kills a worker when some new files are there, whose names it notes."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = os.listdir(folder) if folder.exists() else []
        if len(found) >= 10:
            cluster.workers[0].kill()
            names += found
            return
        time.sleep(0.001)


def test_a_verify_whose_worker_is_killed_while_it_executes(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The same verdicts as without workers, in the same order; so are differences."""
    (tmp_path / "before").mkdir()
    for number in range(10):
        shutil.copy(FIXTURES / "calls-gcc.o", tmp_path / "before" / f"{number}.o")
    rewritten = scpatch(tmp_path, "rewrite", "before", "--output-dir", "after")
    assert rewritten.returncode == 0, rewritten.stderr
    shutil.copy(tmp_path / "before" / "7.o", tmp_path / "after" / "7.o")
    words = ("verify", "before", "after")
    local = scpatch(tmp_path, *words, "--jobs", "1")
    killer = threading.Thread(target=_kill_with_child, args=(cluster,))
    killer.start()
    by_workers = scpatch(tmp_path, *words, "--dask", cluster.address)
    killer.join()
    assert cluster.workers[0].poll() == -signal.SIGKILL
    assert local.returncode == 1
    assert "in 10 objects: 9 proven, 1 not proven" in local.stdout
    for result in ("returncode", "stdout", "stderr"):
        assert getattr(by_workers, result) == getattr(local, result)
    words = ("diff", "before", "after")
    local, by_workers = (
        scpatch(tmp_path, *words, *more) for more in ((), ("--dask", cluster.address))
    )
    assert local.stdout.startswith("total: 9 objects in 10 files differ: ")
    assert (by_workers.stdout, by_workers.stderr) == (local.stdout, local.stderr)


def _kill_with_child(cluster: Cluster) -> None:
    """Kills a worker while it runs another program: the linker, or the emulator."""
    tasks = Path(f"/proc/{cluster.workers[0].pid}/task")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if any((task / "children").read_text() for task in tasks.iterdir()):
            cluster.workers[0].kill()
            cluster.workers[0].wait()
            return


def test_a_scheduler_without_workers(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_has_workers", lambda client, _: has_workers(client, 1))
    with pytest.raises(ScpatchError, match="has no workers") as error, fleet.fleet(scheduler):
        pass
    assert error.value.code == "SCP123"


def test_no_scheduler(tmp_path: Path) -> None:
    done = scpatch(tmp_path, "scan", "--dask", "tcp://127.0.0.1:1", str(FIXTURES / "sites.o"))
    assert done.returncode == 2
    assert "no scheduler of dask at tcp://127.0.0.1:1" in done.stderr
    assert "[SCP123]" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_dask_the_message_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError('not installed')")
    words = [sys.executable, "-m", "scpatch", "scan", "--dask", "h:1", str(FIXTURES / "sites.o")]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "dask is not installed here [SCP123]" in done.stderr
    assert "hint: install it with scpatch: pip install 'scpatch[dask]'" in done.stderr


def test_it_does_not_go_with_jobs(tmp_path: Path) -> None:
    done = scpatch(tmp_path, "scan", "--dask", "h:1", "--jobs", "2", str(FIXTURES / "sites.o"))
    assert done.returncode == 2
    assert "--dask does not go with --jobs" in done.stderr
