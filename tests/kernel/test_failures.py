"""A failure before a kernel has booted is reported, with the end of the log."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tools
from tests.kernel import boot, store
from tests.kernel.build import Kernel
from tests.kernel.store import KernelError


def test_a_failing_command(tmp_path: Path) -> None:
    script = "seq 100; echo oh no >&2; exit 3"
    with pytest.raises(KernelError) as caught:
        store.logged(["sh", "-c", script], tmp_path / "log")
    lines = str(caught.value).splitlines()
    assert "exit status 3" in lines[0]
    assert lines[-2:] == ["100", "oh no"]
    assert len(lines) == 2 + store.TAIL


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="no-such-command"):
        store.logged(["no-such-command"], tmp_path / "log")


def test_a_command_that_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="timed out"):
        store.logged(["sh", "-c", "echo first; exec sleep 60"], tmp_path / "log", timeout=0.5)


def test_the_key_changes_with_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "f"
    seen = set()
    for content in (b"", b"x", b"y"):
        file.write_bytes(content)
        seen.add(store.key(tmp_path / "a"))
    file.rename(tmp_path / "a" / "g")
    seen.add(store.key(tmp_path / "a"))
    assert len(seen) == 4
    assert store.key(tmp_path / "a") in seen
    assert store.key("ab", "c") != store.key("a", "bc")


def test_the_lock_keeps_others_out(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with store.locked(tmp_path / "lock"):
            order.append("other")

    with store.locked(tmp_path / "lock"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("this")
    thread.join()
    assert order == ["this", "other"]


def test_a_log_with_a_case_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("[ 1.0] scpatch-test: a/b ok x 1\n[ 1.1] scpatch-test: a/b FAIL x 2\n")
    with pytest.raises(KernelError, match="a/b comes twice"):
        boot.read_log(log)


def test_what_is_read_from_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "[ 1.0] scpatch-test: a/b ok x 1\n"
        "[ 1.1] scpatch-test: a/c FAIL x 2\n"
        "[ 1.2] scpatch-init: error: /x: No such file or directory\n"
        "[ 1.3] Oops: Kernel access of bad area\n"
    )
    parsed = boot.read_log(log)
    assert parsed.cases == {"a/b": boot.Case(True, "x 1"), "a/c": boot.Case(False, "x 2")}
    assert parsed.errors == ("/x: No such file or directory",)
    assert parsed.oops
    assert not parsed.finished
    assert [line[7:] for line in parsed.after("error")] == ["Oops: Kernel access of bad area"]


@pytest.mark.parametrize(
    ("place", "lost"), [("function_trace_call+0x14/0x170", True), ("sct_k_calls+0x14/0x40", False)]
)
def test_an_oops_in_the_tracer_itself(tmp_path: Path, place: str, lost: bool) -> None:
    log = tmp_path / "log"
    nip = f"[    4.060470] NIP [c0000000001a2d84] {place}\n"
    log.write_text(f"[    4.0] Oops: Kernel access of bad area, sig: 11 [#1]\n{nip}")
    assert boot.says_nothing(boot.read_log(log)) == lost
    log.write_text(nip)
    assert not boot.says_nothing(boot.read_log(log))


def test_a_kernel_that_does_not_boot(
    naive: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its text is branches to themselves."""
    broken = tmp_path / "vmlinux"
    broken.write_bytes(naive.vmlinux.read_bytes())
    text = tools.section(broken, ".text")
    with broken.open("r+b") as file:
        file.seek(text.offset)
        file.write(tools.B.to_bytes(4, "little") * (text.size // 4))
    monkeypatch.setattr(boot, "TIMEOUT", 10)
    with pytest.raises(KernelError, match=r"timed out(.|\n)*boot\.log"):
        boot.boot(replace(naive, vmlinux=broken), ["plain"], tmp_path)


def test_a_step_that_init_does_not_know(naive: Kernel, tmp_path: Path) -> None:
    log = boot.boot(naive, ["dance"], tmp_path)
    assert log.errors == ("dance: No such file or directory",)
    assert log.finished


def test_a_module_that_is_not_there(naive: Kernel, tmp_path: Path) -> None:
    log = boot.boot(replace(naive, modules=()), ["irq"], tmp_path)
    assert "/modules/sct_irq.ko: No such file or directory" in log.errors
    assert not log.cases


def test_the_initramfs_is_what_cpio_writes(naive: Kernel, tmp_path: Path) -> None:
    """cpio unpacks the archive and finds the files."""
    done = subprocess.run(
        ["cpio", "-id", "--no-absolute-filenames", "--quiet"],
        input=boot.initramfs(replace(naive, modules=naive.modules[:1])),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0
    (module,) = (tmp_path / "modules").iterdir()
    assert module.read_bytes() == naive.modules[0].read_bytes()
    assert (tmp_path / "init").read_bytes() == naive.init.read_bytes()
    assert (tmp_path / "dev" / "console").is_char_device()
