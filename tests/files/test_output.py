"""Files are written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import resource
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scpatch.batch.processes import processes
from scpatch.elf.layout import CopiedRange, Layout
from scpatch.errors import RefusedError, ScpatchError
from scpatch.files import filling, output
from scpatch.rewriter import Options, plan_file, staged, write
from scpatch.sites.model import Scan
from scpatch.strategies import scan as strategies_scan
from tests.tools import FIXTURES, options, plan_all, rewrite, rewritten

NOBODY = 65534


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """A copy of an object with call sites, in a folder of its own."""
    folder = tmp_path / "objects"
    folder.mkdir()
    return copy(folder / "sites.o")


def copy(path: Path, name: str = "sites.o") -> Path:
    path.write_bytes((FIXTURES / name).read_bytes())
    return path


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """What the rewritten object is."""
    return rewritten(copy(tmp_path / "expected.o")).read_bytes()


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_in_place(sites: Path, expected: bytes) -> None:
    rewrite(sites)
    assert sites.read_bytes() == expected
    assert names(sites) == ["sites.o"]


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755, 0o444])
def test_the_mode_is_kept(sites: Path, mode: int) -> None:
    sites.chmod(mode)
    rewrite(sites)
    assert stat.S_IMODE(sites.stat().st_mode) == mode


def test_a_hard_link_keeps_the_old_file(sites: Path, expected: bytes) -> None:
    link = sites.with_name("cache.o")
    link.hardlink_to(sites)
    before = sites.read_bytes()
    rewrite(sites)
    assert link.read_bytes() == before
    assert sites.read_bytes() == expected


def test_a_backup_that_cannot_be_made_leaves_all_files(sites: Path) -> None:
    other = sites.with_name("z.o")
    other.write_bytes(sites.read_bytes())
    before = sites.read_bytes()
    other.with_name("z.o.orig").mkdir()
    with pytest.raises(ScpatchError, match="cannot write: Is a directory") as caught:
        write([plan_file(path, Options()) for path in (sites, other)], backup=True)
    assert caught.value.file == str(other.with_name("z.o.orig"))
    assert (sites.read_bytes(), other.read_bytes()) == (before, before)


def test_a_symbolic_link_is_followed(sites: Path, tmp_path: Path, expected: bytes) -> None:
    link = tmp_path / "link.o"
    link.symlink_to("objects/sites.o")
    second = tmp_path / "second.o"
    second.symlink_to("link.o")
    rewrite(second)
    assert link.is_symlink()
    assert second.is_symlink()
    assert sites.read_bytes() == expected
    assert not sites.is_symlink()


def test_an_output_that_is_a_dangling_link(sites: Path, tmp_path: Path, expected: bytes) -> None:
    link = tmp_path / "out.o"
    link.symlink_to("objects/new.o")
    rewrite(sites, link)
    assert link.is_symlink()
    assert (tmp_path / "objects/new.o").read_bytes() == expected


def test_a_link_to_itself(sites: Path) -> None:
    loop = sites.with_name("loop.o")
    loop.symlink_to("loop.o")
    with pytest.raises(ScpatchError) as caught:
        rewrite(sites, loop)
    assert caught.value.code == "SCP110"


def test_the_longest_name(sites: Path, expected: bytes) -> None:
    longest = sites.with_name("n" * 253 + ".o")
    rewrite(sites, longest)
    assert longest.read_bytes() == expected


def test_a_backup(sites: Path) -> None:
    before = sites.read_bytes()
    inode = sites.stat().st_ino
    write([plan_file(sites, Options(), None)], backup=True)
    original = sites.with_name("sites.o.orig")
    assert original.read_bytes() == before
    assert original.stat().st_ino == inode
    assert names(sites) == ["sites.o", "sites.o.orig"]


def test_a_backup_replaces_an_older_one(sites: Path) -> None:
    sites.with_name("sites.o.orig").write_bytes(b"older")
    before = sites.read_bytes()
    write([plan_file(sites, Options(), None)], backup=True)
    assert sites.with_name("sites.o.orig").read_bytes() == before
    assert names(sites) == ["sites.o", "sites.o.orig"]


def test_a_backup_that_is_the_file_itself(sites: Path) -> None:
    before = sites.read_bytes()
    sites.with_name("sites.o.orig").hardlink_to(sites)
    write([plan_file(sites, Options(), None)], backup=True)
    assert sites.with_name("sites.o.orig").read_bytes() == before
    assert names(sites) == ["sites.o", "sites.o.orig"]


def test_a_backup_of_nothing(sites: Path) -> None:
    write([plan_file(sites, Options(), sites.with_name("new.o"))], backup=True)
    assert names(sites) == ["new.o", "sites.o"]


def test_a_backup_that_cannot_be_made(sites: Path) -> None:
    sites.with_name("sites.o.orig").mkdir()
    before = sites.read_bytes()
    with pytest.raises(ScpatchError) as caught:
        write([plan_file(sites, Options(), None)], backup=True)
    assert caught.value.code == "SCP110"
    assert sites.read_bytes() == before
    assert names(sites) == ["sites.o", "sites.o.orig"]


def test_leftovers_of_a_killed_run_do_not_matter(
    sites: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites.with_name(f".sites.o.{os.getpid()}.scpatch").write_bytes(b"left")
    rewrite(sites)
    assert sites.read_bytes() == expected


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_an_output_that_is_no_file(sites: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.mkdir() if kind == "directory" else os.mkfifo(target)
    with pytest.raises(ScpatchError, match="cannot write: it is") as caught:
        rewrite(sites, target)
    assert caught.value.code == "SCP110"


def test_a_pipe_by_its_path(sites: Path) -> None:
    """As /dev/stdout is one: the link that leads to it names no file."""
    reading, writing = os.pipe()
    try:
        with pytest.raises(ScpatchError, match="cannot write: it is not a regular file") as caught:
            rewrite(sites, Path(f"/proc/self/fd/{writing}"))
    finally:
        os.close(reading)
        os.close(writing)
    assert "`-o -`" in caught.value.hint


def test_an_output_in_a_missing_directory(sites: Path, tmp_path: Path) -> None:
    with pytest.raises(ScpatchError, match="No such file or directory") as caught:
        rewrite(sites, tmp_path / "missing" / "out.o")
    assert caught.value.file == str(tmp_path / "missing" / "out.o")


def test_another_filesystem_or_none_that_copies(
    sites: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fails(*arguments: object) -> int:
        calls.append(arguments)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", fails)
    rewrite(sites)
    assert len(calls) == 1
    assert sites.read_bytes() == expected


@pytest.mark.parametrize("missing", ["O_TMPFILE", "proc", "linkat"])
def test_a_system_without_files_without_names(
    sites: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Older and network file systems, a chroot without /proc, an owner whose files the kernel does
    not let us link."""
    calls: list[tuple[object, ...]] = []
    if missing == "proc":
        monkeypatch.setattr(output, "_DESCRIPTORS", sites.parent / "none")
    elif missing == "linkat":
        monkeypatch.setattr(os, "link", fails_with(errno.EPERM, calls))
    else:
        real = os.open

        def no_tmpfile(path: Path, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                return fails_with(errno.EOPNOTSUPP, calls)()
            return real(path, flags, mode)

        monkeypatch.setattr(os, "open", no_tmpfile)
    sites.chmod(0o751)
    rewrite(sites)
    assert len(calls) == (missing != "proc")
    assert sites.read_bytes() == expected
    assert stat.S_IMODE(sites.stat().st_mode) == 0o751
    assert names(sites) == ["sites.o"]


def fails_with(number: int, calls: list[tuple[object, ...]]) -> Callable[..., int]:
    def fails(*arguments: object, **options: object) -> int:
        calls.append(arguments)
        raise OSError(number, os.strerror(number))

    return fails


@pytest.mark.parametrize("others", [0, 200])
def test_a_limit_on_open_files(tmp_path: Path, others: int) -> None:
    """With more outputs than half of what is free, the later ones get their names at once, however
    many files the process has open for other reasons."""
    paths = [copy(tmp_path / f"{number}.o") for number in range(40)]
    plans, errors = plan_all(paths, Options(), None)
    assert not errors
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(others)]
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 30, limits[1]))
    try:
        with staged(plans) as files:
            named = [file for file in files if file.descriptor < 0]
            assert 0 < len(named) < len(files)
            assert len(names(paths[0])) == len(paths) + len(named)
            output.commit(files)
        assert len(os.listdir("/proc/self/fd")) == used
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)
    assert len({path.read_bytes() for path in paths}) == 1
    assert names(paths[0]) == sorted(path.name for path in paths)


def test_copies_that_stop_short(
    sites: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.copy_file_range
    monkeypatch.setattr(
        os, "copy_file_range", lambda s, d, n, a, b: real(s, d, min(n, 7), a, b), raising=True
    )
    rewrite(sites)
    assert sites.read_bytes() == expected


def test_a_source_that_became_shorter(sites: Path, tmp_path: Path) -> None:
    layout = Layout(1 << 20, (CopiedRange(0, 0, 1 << 20),), ())
    with (
        sites.open("rb") as source,
        pytest.raises(ScpatchError, match="the input file became shorter"),
    ):
        output.stage(tmp_path / "out.o", source.fileno(), layout)
    assert not list(tmp_path.glob(".out*"))


def test_a_source_that_changed_since_it_was_read(sites: Path) -> None:
    plan = plan_file(sites, Options(), None)
    changed = sites.read_bytes() + b"\0"
    sites.write_bytes(changed)
    with pytest.raises(ScpatchError) as caught:
        write([plan])
    assert caught.value.code == "SCP112"
    assert sites.read_bytes() == changed


@pytest.mark.parametrize("replaced", [False, True])
def test_a_source_that_changes_while_it_is_copied(
    sites: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """What was written meanwhile is newer than the plan: it stays."""
    plan = plan_file(sites, Options(), None)
    newer = sites.read_bytes()[:-1] + b"!"
    real = os.copy_file_range

    def change(*arguments: int) -> int:
        if replaced:
            sites.unlink()
        sites.write_bytes(newer)
        os.utime(sites, ns=(1, 1))
        return real(*arguments)

    monkeypatch.setattr(os, "copy_file_range", change)
    with pytest.raises(ScpatchError) as caught:
        write([plan])
    assert caught.value.code == "SCP112"
    assert sites.read_bytes() == newer
    assert names(sites) == ["sites.o"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_source_that_changes_while_it_is_planned(
    sites: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """The plan is of what the file was when it was opened, not of what it is when all is read."""
    newer = sites.read_bytes()[:-1] + b"!"
    real = strategies_scan.scan

    def change(*arguments: object) -> Scan:
        scanned = real(*arguments)  # type: ignore[arg-type]
        if replaced:
            sites.unlink()
        sites.write_bytes(newer)
        os.utime(sites, ns=(1, 1))
        return scanned

    monkeypatch.setattr("scpatch.rewriter.object.scan", change)
    plan = plan_file(sites, Options(), None)
    with pytest.raises(ScpatchError) as caught:
        write([plan])
    assert caught.value.code == "SCP112"
    assert sites.read_bytes() == newer
    assert names(sites) == ["sites.o"]


def test_a_failed_sync(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sites.read_bytes()

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(ScpatchError, match="cannot write: Input/output error"):
        rewrite(sites)
    assert sites.read_bytes() == before
    assert names(sites) == ["sites.o"]


def test_a_failed_background_sync(
    sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports lost data to one sync only; that may be the early one."""

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    monkeypatch.setattr(filling, "_BACKGROUND_SYNC", 0)
    real = os.copy_file_range

    def slow(source: int, target: int, count: int, at: int, to: int) -> int:
        time.sleep(0.05)
        return real(source, target, count, at, to)

    monkeypatch.setattr(os, "copy_file_range", slow)
    with pytest.raises(ScpatchError, match="Input/output error"):
        rewrite(sites)
    assert names(sites) == ["sites.o"]


def test_refused_call_sites_are_not_written_unless_allowed(tmp_path: Path) -> None:
    """The rule of the command line and of the build step, in the library."""
    path = copy(tmp_path / "refused.o", "refused.o")
    before = path.read_bytes()
    good = plan_file(copy(tmp_path / "calls.o", "calls-gcc.o"), Options())
    plan = plan_file(path, Options())
    assert len(plan.refused) == 7
    with pytest.raises(RefusedError, match="7 call sites were refused") as caught:
        write([good, plan])
    assert (caught.value.code, caught.value.status) == ("SCP135", 3)
    with pytest.raises(RefusedError), staged([good, plan]):
        raise AssertionError("staged")
    assert path.read_bytes() == before
    assert (tmp_path / "calls.o").read_bytes() == (FIXTURES / "calls-gcc.o").read_bytes()
    assert names(path) == ["calls.o", "refused.o"]
    write([good, plan], allow_refused=True)
    assert path.read_bytes() != before
    assert names(path) == ["calls.o", "refused.o"]


def test_all_or_nothing(sites: Path, tmp_path: Path) -> None:
    other = copy(tmp_path / "objects" / "calls.o", "calls-gcc.o")
    before = {path: path.read_bytes() for path in (sites, other)}
    plans, errors = plan_all([sites, other], Options(), None)
    assert not errors
    last = plans[1].outputs[0]._replace(target=tmp_path / "missing" / "out.o")
    with pytest.raises(ScpatchError):
        write([plans[0], plans[1]._replace(outputs=(last,))])
    assert {path: path.read_bytes() for path in before} == before
    assert names(sites) == ["calls.o", "sites.o"]


def test_a_failure_while_a_process_still_writes(
    sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file would appear after all else is removed."""
    plan = plan_file(sites, Options(), None)
    outputs = [plan.outputs[0]._replace(target=sites.with_name(name)) for name in ("bad", "slow")]
    begun = tmp_path / "begun"

    def resolve(path: Path) -> Path:
        if path.name == "slow":
            begun.touch()
            time.sleep(0.5)
            return path
        while not begun.exists():
            time.sleep(0.01)
        raise ScpatchError("SCP110", "cannot write", file=str(path))

    def sweep(*arguments: Any) -> None:
        remove(*arguments)
        time.sleep(0.7)

    remove = output.sweep
    monkeypatch.setattr(output, "sweep", sweep)
    monkeypatch.setattr(output, "resolve", resolve)
    with pytest.raises(ScpatchError, match="cannot write"), processes(2) as executor:
        write([plan._replace(outputs=tuple(outputs))], executor=executor)
    assert begun.exists()
    assert names(sites) == ["sites.o"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupted_while_all_is_staged(
    sites: Path, expected: bytes, error: type[BaseException]
) -> None:
    before = sites.read_bytes()
    plan = plan_file(sites, Options(), None)

    def interrupted() -> None:
        with staged([plan]) as files:
            (file,) = files
            assert file.path.read_bytes() == expected
            raise error

    with pytest.raises(error):
        interrupted()
    assert sites.read_bytes() == before
    assert names(sites) == ["sites.o"]


def as_nobody(action: Callable[[], object]) -> int:
    """Runs `action` in a child process without privileges; 0 where it raised nothing."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            action()
            status = 0
        except ScpatchError as error:
            status = int(error.code[3:])
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody can reach."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_directory_that_cannot_be_written(public: Path) -> None:
    path = copy(public / "sites.o")
    path.chmod(0o644)
    public.chmod(0o555)
    before = path.read_bytes()
    assert as_nobody(lambda: rewrite(path)) == 110
    public.chmod(0o755)
    assert path.read_bytes() == before
    assert names(path) == ["sites.o"]


def test_a_file_of_somebody_else(public: Path, expected: bytes) -> None:
    """It can be replaced where the directory allows it; then it is one's own."""
    path = copy(public / "sites.o")
    path.chmod(0o644)
    public.chmod(0o777)
    assert as_nobody(lambda: rewrite(path)) == 0
    assert path.read_bytes() == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_an_unreadable_file(public: Path) -> None:
    path = copy(public / "sites.o")
    if os.getuid() == 0:
        path.chmod(0o600)
    else:
        path.chmod(0)
    assert as_nobody(lambda: plan_file(path, options(), None)) == 109
