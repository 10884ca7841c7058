"""Two processes share the work on one large file, and nobody sees it in what is reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest

from scpatch.errors import ScpatchError
from scpatch.verifier import beside as module
from scpatch.verifier.beside import beside, side_by_side
from scpatch.verifier.files import verify_files
from scpatch.verifier.objects import second_opinion
from scpatch.verifier.options import DEFAULTS, VerifyOptions
from scpatch.verifier.phases import enter, listening
from scpatch.verifier.tools import Tools, find_tools
from scpatch.verifier.verdict import Verdict
from tests.tools import LD, ROOT, assemble, rewritten, run

LARGE = module._WORTHWHILE


def eventually(holds: Callable[[], bool]) -> None:
    """Waits for what another process does."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def running(word: str) -> list[int]:
    """The processes with an argument."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                pids.append(int(path.parent.name))
    return pids


def is_running(process: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def shared(two_processors: None) -> Iterator[None]:
    """This process may start others."""
    with side_by_side():
        yield


@pytest.mark.usefixtures("shared")
def test_the_work_is_done_by_another_process() -> None:
    with beside(os.getpid, LARGE) as result:
        assert result() not in (os.getpid(), 0)


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize(("shared", "processors", "size"), [(0, 2, 0), (1, 1, 0), (1, 2, -1)])
def test_it_is_not_worth_a_process(
    monkeypatch: pytest.MonkeyPatch, shared: int, processors: int, size: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    monkeypatch.setattr(module, "_depth", [shared])
    with beside(os.getpid, LARGE + size) as result:
        assert result() == os.getpid()


@pytest.mark.usefixtures("shared")
def test_this_process_raises_what_the_other_one_did() -> None:
    def fail() -> NoReturn:
        raise ScpatchError("SCP302", f"failed in {os.getpid()}")

    with pytest.raises(ScpatchError, match=f"failed in {os.getpid()}"), beside(fail, LARGE) as done:
        done()


@pytest.mark.usefixtures("shared")
def test_the_other_process_dies() -> None:
    here = os.getpid()

    def die() -> int:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    with beside(die, LARGE) as result:
        assert result() == here


@pytest.mark.usefixtures("shared")
def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> NoReturn:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", full)
    with beside(os.getpid, LARGE) as result:
        assert result() == os.getpid()


@pytest.mark.usefixtures("shared")
def test_nobody_is_told_of_its_phases() -> None:
    told: list[str] = []

    def work() -> list[str]:
        enter("in another process")
        return told

    with listening(lambda phase, _done, _total: told.append(phase)), beside(work, LARGE) as result:
        assert result() == []
        enter("here")
    assert told == ["here"]


@pytest.mark.usefixtures("shared")
def test_it_ends_with_the_context_and_cleans_up(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def sleep() -> None:
        with TemporaryDirectory(dir=tmp_path), subprocess.Popen(["sleep", "1000"]) as program:
            (tmp_path / "new").write_text(f"{os.getpid()} {program.pid}")
            (tmp_path / "new").rename(pids)
            try:
                program.wait()
            finally:
                program.kill()

    def leave() -> None:
        with beside(sleep, LARGE):
            eventually(pids.exists)
            processes.extend(map(int, pids.read_text().split()))
            os.kill(processes[0], signal.SIGINT)  # a terminal sends it to both
            assert all(map(is_running, processes))
            raise KeyError

    processes: list[int] = []
    with pytest.raises(KeyError):
        leave()
    assert not any(map(is_running, processes))
    assert [path.name for path in tmp_path.iterdir()] == ["pids"]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two versions of a large object."""
    source = "FUNC __SCT__x\n blr\n END __SCT__x\nFRAME f\n bl __SCT__x\n nop\n LEAVE f\n"
    before = assemble(tmp_path, f"{source} .data\n .space {LARGE}\n")
    return before, rewritten(before)


def both_ways(
    before: Path, after: Path, tools: Tools | None, options: VerifyOptions = DEFAULTS
) -> Sequence[list[Verdict] | str]:
    """What is said with one process and with several."""
    results: list[list[Verdict] | str] = []
    for several in (False, True):
        try:
            if several:
                with side_by_side():
                    results.append(verify_files(before, after, options, tools))
            else:
                results.append(verify_files(before, after, options, tools))
        except ScpatchError as error:
            results.append(str(error))
    return results


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that are forked."""
    started: list[int] = []
    fork = os.fork

    def counted() -> int:
        pid = fork()
        started.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", counted)
    return started


@pytest.mark.usefixtures("two_processors")
def test_the_verdict_is_the_same(pair: tuple[Path, Path], forks: list[int]) -> None:
    alone, shared = both_ways(*pair, find_tools())
    assert isinstance(alone, list)
    assert alone[0].proven
    assert alone[0].runs
    assert "LIEF" in alone[0].proof.checkers.second_opinion
    assert alone == shared
    assert len(forks) == 2


@pytest.mark.usefixtures("two_processors")
def test_images_are_shared_too(pair: tuple[Path, Path], forks: list[int], tmp_path: Path) -> None:
    image = tmp_path / "image"
    run(LD, "-e0", "-o", image, pair[1])
    alone, shared = both_ways(image, image, None)
    assert isinstance(alone, list)
    assert alone[0].proven
    assert alone == shared
    assert len(forks) == 1


@pytest.mark.usefixtures("two_processors", "forks")
def test_what_the_second_opinion_says(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_opinion, "disagreements", lambda image: (f"bad {image.path.name}",))
    alone, shared = both_ways(*pair, find_tools())
    assert isinstance(alone, list)
    assert alone[0].proof.errors == tuple(f"bad {path.name}" for path in pair)
    assert alone[0].proof.sites == ()
    assert alone == shared


@pytest.mark.usefixtures("two_processors")
def test_the_first_error_of_a_run_is_raised(pair: tuple[Path, Path]) -> None:
    tools = find_tools()
    broken = Tools("/bin/false", tools.assembler, tools.emulator)
    alone, shared = both_ways(*pair, broken)
    assert isinstance(alone, str)
    assert str(pair[0]) in alone
    assert alone == shared


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("to_all", [False, True])
def test_a_signal_ends_all_of_it(
    pair: tuple[Path, Path], tmp_path: Path, number: signal.Signals, to_all: bool
) -> None:
    """While both versions of the object run. A terminal sends the signal to all processes."""
    forever = f"1000.{os.getpid()}"
    qemu, folder = tmp_path / "qemu", tmp_path / "folder"
    # What it reads comes when whoever has started it would also stop it.
    qemu.write_text(f"#!/bin/sh\nhead -c 1 >/dev/null\nexec sleep {forever}\n")
    qemu.chmod(0o755)
    folder.mkdir()
    script = f"""
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.sched_getaffinity = lambda _: {{0, 1}}
sys.argv = ["scpatch", "verify", "--qemu", {str(qemu)!r}, *sys.argv[1:]]
from scpatch.__main__ import main
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, pair)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        eventually(lambda: len(running(forever)) == 2)
        assert len(list(folder.iterdir())) == 2
        (os.killpg if to_all else os.kill)(process.pid, number)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (-number, "", "")
        assert running(forever) == []
        assert list(folder.iterdir()) == []
    finally:
        process.kill()
        for pid in running(forever):
            os.kill(pid, signal.SIGKILL)
