"""Links of modules: the result is rewritten before it appears under its name."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kbuild.support import (
    CALLER,
    LINKERS,
    SCRIPT,
    SIBLING,
    TRAMPOLINE,
    call,
    environment,
    link,
    make_tree,
    module_arguments,
    snapshot,
    stubs,
)
from tests.sites.support import entries, key
from tests.tools import LD, LD_FLAGS_OF, assemble, rewrite, run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.mark.parametrize("order", LD_FLAGS_OF)
@pytest.mark.parametrize("linker", ["bfd", "lld"])
def test_a_module_is_the_linkers_after_rewrite(tmp_path: Path, linker: str, order: str) -> None:
    tree = make_tree(tmp_path / "tree", order)
    words = module_arguments(linker=linker, order=order)
    run(LINKERS[linker], *words, cwd=tree)
    plain = tree / "fs/fs.ko"
    rewrite(plain)
    expected = plain.read_bytes()
    plain.unlink()
    before = snapshot(tree)
    done = link(tree, words, linker=LINKERS[linker])
    assert (done.stdout, done.stderr) == ("  SCPATCH fs/fs.ko\n", "")
    assert plain.read_bytes() == expected
    assert len(stubs(plain)) == 1
    assert snapshot(tree).keys() - before.keys() == {"fs/fs.ko", ".tmp_scpatch"}


@pytest.mark.parametrize("script", ["arch/powerpc/module.lds", "/o/scripts/module.lds", "x.lds"])
def test_a_module_of_a_headers_package(tree: Path, tmp_path: Path, script: str) -> None:
    """Debian's has the linker script elsewhere. The module is one whatever its script is."""
    path = tmp_path / script.removeprefix("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    (tree / "scripts/module.lds").rename(path)
    words = [str(path) if word == "scripts/module.lds" else word for word in module_arguments()]
    assert link(tree, words).stdout == "  SCPATCH fs/fs.ko\n"
    assert len(stubs(tree / "fs/fs.ko")) == 1


def test_a_module_whose_sites_are_left_to_the_loader_is_unchanged(tree: Path) -> None:
    assemble(tree / "fs", CALLER.format(name="probe"), "fs.o")
    run(LD, *module_arguments(), cwd=tree)
    expected = (tree / "fs/fs.ko").read_bytes()
    done = link(tree, module_arguments())
    assert (done.stdout, done.stderr) == ("", "")
    assert (tree / "fs/fs.ko").read_bytes() == expected


def test_verbose_adds_a_summary(tree: Path) -> None:
    done = link(tree, module_arguments(), env={"KBUILD_VERBOSE": "1"})
    assert "fs/fs.ko: 1 call site rewritten (by 1 stub)" in done.stdout


@pytest.mark.parametrize("flags", ["", "--strategy=paca", "--strategy=livepatch-stack"])
def test_calls_that_need_no_r2_are_told_of(tree: Path, flags: str) -> None:
    """In a kernel of pc-relative code all are such, and none of the offsets is needed."""
    assemble(tree / "fs", "FUNC probe\n bl __SCT__work@notoc\n blr\nEND probe\n", "fs.o")
    env = {"SCPATCH_FLAGS": flags}
    done = link(tree, module_arguments(), env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = link(tree, module_arguments(), env={**env, "KBUILD_VERBOSE": "1"})
    assert "fs/fs.ko: nothing to do: 1 not in need of r2" in done.stdout


def test_a_module_outside_the_tree(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("fs.o", "fs.mod.o"):
        (tree / "fs" / name).rename(outside / name)
    done = link(tree, module_arguments(f"{outside}/fs"))
    assert done.stdout == f"  SCPATCH {outside}/fs.ko\n"
    assert len(stubs(outside / "fs.ko")) == 1


def _refuse(tree: Path) -> None:
    assemble(tree / "fs", CALLER.format(name="probe") + SIBLING + TRAMPOLINE, "fs.o")


def test_a_refused_site_leaves_no_module(tree: Path) -> None:
    (tree / "fs/fs.ko").write_bytes(b"of an earlier build")
    _refuse(tree)
    done = call(tree, module_arguments())
    assert done.returncode == 3
    assert done.stderr.startswith("scpatch: error: fs/fs.ko: .text+")
    assert "[SCP203]" in done.stderr
    assert {path.name for path in (tree / "fs").iterdir()} == {"fs.o", "fs.mod.o"}


def test_warn_only_leaves_the_refused_site(tree: Path) -> None:
    _refuse(tree)
    done = link(tree, module_arguments(), env={"SCPATCH_FLAGS": "--warn-only"})
    assert "[SCP203]" in done.stderr
    assert len(stubs(tree / "fs/fs.ko")) == 1


def test_a_modules_table(tree: Path) -> None:
    assemble(tree / "fs", CALLER.format(name="probe") + TRAMPOLINE + key("work"), "fs.o")
    done = link(tree, module_arguments(), env={"SCPATCH_FLAGS": "--emit-sites"})
    assert done.stdout == "  SCPATCH fs/fs.ko\n"
    assert entries(tree / "fs/fs.ko") == [(".text", 20, "__SCK__work")]


@pytest.mark.parametrize(
    ("body", "status"), [("exit 5", 5), ("kill -9 $$", 137), ("echo x >$out; exit 1", 1)]
)
def test_a_failing_linker_leaves_no_module(tree: Path, body: str, status: int) -> None:
    (tree / "fs/fs.ko").write_bytes(b"of an earlier build")
    fake = tree / "fake-ld"
    fake.write_text(f"#!/bin/sh\nout=fs/.tmp_fs.ko\necho said >&2\n{body}\n")
    fake.chmod(0o755)
    done = call(tree, module_arguments(), linker="./fake-ld")
    assert (done.returncode, done.stderr) == (status, "said\n")
    assert {path.name for path in (tree / "fs").iterdir()} == {"fs.o", "fs.mod.o"}


WRONG = {
    "--no-such-option": "scpatch-ld: unknown option --no-such-option [SCP401]",
    "--asm-offsets=missing.h": "missing.h: cannot read: No such file or directory [SCP109]",
}


@pytest.mark.parametrize("flag", WRONG)
def test_a_wrong_command_line_leaves_the_module_as_it_was(tree: Path, flag: str) -> None:
    """As GNU ld does: no link has started."""
    (tree / "fs/fs.ko").write_bytes(b"of an earlier build")
    before = snapshot(tree)
    done = call(tree, module_arguments(), options=[flag])
    assert done.returncode in (1, 2)
    assert WRONG[flag] in done.stderr
    run(LD, "--no-such-option", *module_arguments(), cwd=tree, check=False)
    assert snapshot(tree) == before


@pytest.mark.parametrize("name", ["fs/fs.ko", "./fs/../fs/fs.ko"])
def test_an_output_that_is_an_input_stays(tree: Path, name: str) -> None:
    """GNU ld refuses it too."""
    (tree / "fs/fs.o").rename(tree / "fs/fs.ko")
    words = [*module_arguments()[:-2], name, "fs/fs.mod.o"]
    before = snapshot(tree)
    done = call(tree, words)
    assert done.returncode == 2
    assert "fs/fs.ko: the output of the link is also an input [SCP401]" in done.stderr
    assert run(LD, *words, cwd=tree, check=False).returncode == 1
    assert snapshot(tree) == before


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_an_output_that_is_no_file_stays(tree: Path, make: Callable[[Path], None]) -> None:
    """Such as /dev/null, which root could remove."""
    make(tree / "fs/fs.ko")
    kind = stat.S_IFMT((tree / "fs/fs.ko").stat().st_mode)
    done = call(tree, module_arguments())
    assert done.returncode == 1
    assert "fs/fs.ko: cannot write: it is not a regular file [SCP110]" in done.stderr
    assert stat.S_IFMT((tree / "fs/fs.ko").stat().st_mode) == kind


def test_a_symbolic_link_is_replaced_as_the_linker_does(tree: Path) -> None:
    (tree / "fs/old.ko").write_bytes(b"of an earlier build")
    (tree / "fs/fs.ko").symlink_to("old.ko")
    link(tree, module_arguments())
    assert not (tree / "fs/fs.ko").is_symlink()
    assert (tree / "fs/old.ko").read_bytes() == b"of an earlier build"


def test_a_damaged_result_is_one_message(tree: Path) -> None:
    fake = tree / "fake-ld"
    fake.write_text("#!/bin/sh\nprintf '\\177ELF' >fs/.tmp_fs.ko\n")
    fake.chmod(0o755)
    done = call(tree, module_arguments(), linker="./fake-ld")
    assert done.returncode == 1
    assert done.stderr.startswith("scpatch: error: fs/fs.ko: ")
    assert "Traceback" not in done.stderr
    assert not (tree / "fs/fs.ko").exists()


def test_a_stopped_build_leaves_no_module(tree: Path) -> None:
    """make sends SIGTERM while the linker runs: both end, and nothing is left."""
    fake = tree / "fake-ld"
    fake.write_text("#!/bin/sh\n: >fs/.tmp_fs.ko\necho $$ >pid\nexec sleep 100\n")
    fake.chmod(0o755)
    command = [str(SCRIPT), "./fake-ld", *module_arguments()]
    with subprocess.Popen(command, cwd=tree, env=environment()) as process:
        deadline = time.monotonic() + 60
        pid = tree / "pid"
        while not (pid.exists() and pid.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert {path.name for path in (tree / "fs").iterdir()} == {"fs.o", "fs.mod.o"}


def test_a_missing_python_module_is_one_message(tree: Path, tmp_path: Path) -> None:
    """A checkout, and a Python without what pip would have installed: here the package that reads
    source lines, for a refused call site."""
    refused = '.file 1 "fs.c"\nFUNC f\n.loc 1 1\nb __SCT__work\nEND f\n'
    assemble(tree / "fs", refused + TRAMPOLINE, "fs.o")
    program = tmp_path / "lacking.py"
    program.write_text(
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(SCRIPT.parents[2])!r})\n"
        "sys.modules['elftools'] = None\n"
        "sys.argv[:3] = ['scpatch.kbuild']\n"
        "runpy.run_module('scpatch.kbuild', run_name='__main__')\n"
    )
    wrapper = tmp_path / "python"
    real = environment()["SCPATCH_PYTHON"]
    wrapper.write_text(f'#!/bin/sh\nexec "{real}" {program} "$@"\n')
    wrapper.chmod(0o755)
    done = call(tree, module_arguments(), env={"SCPATCH_PYTHON": str(wrapper)})
    assert done.returncode == 1
    assert "scpatch: error: the Python package pyelftools cannot be imported: " in done.stderr
    assert "[SCP137]" in done.stderr
    assert f"hint: {real} -m pip install pyelftools\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tree / "fs/fs.ko").exists()
