"""`--verify` of `rewrite` and `scpatch-ld`: what is not proven does not appear under its name."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.proving import prove
from scpatch.rewriter import FilePlan, Options, plan_file, write
from tests import archives
from tests.kbuild.support import (
    COPIES,
    call,
    image_arguments,
    link,
    make_tree,
    module_arguments,
    snapshot,
    stubs,
)
from tests.test_trees import scpatch
from tests.tools import CROSS, FIXTURES, NOP, STD_R2, assemble, run

WRONG = "FRAME f\nCALL __SCT__x\nLEAVE f\nFUNC g\nb __SCT__x\nEND g\n"
"""A call that can be rewritten, and a sibling call, which is refused."""


def _damaged(plan: FilePlan) -> FilePlan:
    """The plan of a rewriter that writes nops instead of the saves of its stubs."""
    (output,) = plan.outputs
    save, nop = (word.to_bytes(4, "little") for word in (STD_R2, NOP))
    writes = tuple((at, data.replace(save, nop)) for at, data in output.layout.writes)
    assert writes != output.layout.writes
    return plan._replace(outputs=(output._replace(layout=output.layout._replace(writes=writes)),))


@pytest.mark.parametrize("name", ["sites.o", "module.ko", "members.a"])
def test_what_a_wrong_rewriter_makes_is_not_written(tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(FIXTURES / name, tmp_path))
    before = snapshot(tmp_path)
    plan, check = plan_file(path, Options()), partial(prove, options=Options())
    with pytest.raises(ScpatchError, match=r"not proven, and [0-9]+ more: ") as raised:
        write([_damaged(plan)], check=check)
    assert raised.value.code == "SCP304"
    assert raised.value.file.startswith(str(path))
    assert snapshot(tmp_path) == before
    write([plan], check=check)
    assert snapshot(tmp_path) != before


def test_what_is_written_is_what_rewrite_writes_without_it(tmp_path: Path) -> None:
    for name in ("sites.o", "members.a", "module.ko"):
        plain, proven = tmp_path / f"plain.{name}", tmp_path / f"proven.{name}"
        assert scpatch("rewrite", FIXTURES / name, "-o", plain).returncode == 0
        result = scpatch("rewrite", "--verify", FIXTURES / name, "-o", proven)
        assert (result.returncode, proven.read_bytes()) == (0, plain.read_bytes())
        assert "note: each new file was proven and executed first" in result.stderr


def test_a_refused_call_that_may_stay_is_not_proven(tmp_path: Path) -> None:
    path = assemble(tmp_path, WRONG)
    before = snapshot(tmp_path)
    result = scpatch("rewrite", "-k", "--verify", path)
    assert result.returncode == 1
    assert "x.o: .text+0x30 in g+0x0: not proven: a sibling call" in result.stderr
    assert "[SCP304]" in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_wrong_file_keeps_all_others_out(tmp_path: Path, jobs: int) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    shutil.copy(FIXTURES / "sites.o", tree)
    assemble(tree, WRONG, "wrong.o")
    arguments = ("rewrite", "--verify", tree, "--output-dir", out, "-j", jobs)
    result = scpatch(*arguments)
    assert (result.returncode, out.exists()) == (3, False)
    result = scpatch(*arguments, "-k")
    assert result.returncode == 1
    assert result.stderr.count("[SCP304]") == 1
    assert "wrong.o -> " not in result.stderr
    assert [path.name for path in out.iterdir()] == ["sites.o"]


def test_nothing_goes_to_stdout_that_is_not_proven(tmp_path: Path) -> None:
    path = assemble(tmp_path, WRONG)
    result = scpatch("rewrite", "-k", "--verify", "-", "-o", "-", stdin=path.read_bytes())
    assert (result.returncode, result.stdout) == (1, "")
    assert "<stdin>: .text+0x30 in g+0x0: not proven: " in result.stderr


def test_a_dry_run_proves_nothing(tmp_path: Path) -> None:
    result = scpatch("rewrite", "-n", "--verify", FIXTURES / "sites.o")
    assert result.returncode == 2
    assert "--verify does not go with --dry-run" in result.stderr


def test_a_missing_program_is_told_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSS_COMPILE", "none-")
    result = scpatch("rewrite", "--verify", FIXTURES / "sites.o", "-o", tmp_path / "x.o")
    assert result.returncode == 1
    assert "or leave out --verify" in result.stderr
    assert all(option not in result.stderr for option in ("--no-run", "--cross-compile"))
    assert not list(tmp_path.iterdir())


VERIFY = {"SCPATCH_FLAGS": "--verify", "KBUILD_VERBOSE": "1"}
WARN_ONLY = {"SCPATCH_FLAGS": "--verify --warn-only"}


def _archive(tree: Path) -> None:
    """Makes vmlinux.a again."""
    (tree / "vmlinux.a").unlink()
    names = "init/one.o", "init/two.o", "init/three.o"
    archives.make(tree / "vmlinux.a", *names, options="cDPrST")


def test_a_kernel_build_proves_copies_and_modules(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    image = link(tree, image_arguments(), env=VERIFY)
    assert len(stubs(tree / "vmlinux")) == 3
    module = link(tree, module_arguments(), env=VERIFY)
    assert len(stubs(tree / "fs/fs.ko")) == 1
    for done in (image, module):
        assert done.stdout.endswith(" of code; proven and executed\n")


def test_a_copy_is_proven_alone(tmp_path: Path) -> None:
    """Without --verify, the nop after a call of another object's function may become a save."""
    tree = make_tree(tmp_path / "tree")
    caller = "FRAME one\nbl three\nnop\nCALL __SCT__work\nLEAVE one\n"
    assemble(tree / "init", caller, "one.o")
    _archive(tree)
    saves = []
    for flags in ("", "--verify"):
        link(tree, image_arguments(), env={"SCPATCH_FLAGS": flags})
        (copy,) = (tree / COPIES).rglob("one.*.o")
        saves.append("r2save" in run(CROSS + "nm", copy).stdout)
    assert saves == [False, True]


def test_a_copy_that_is_not_proven_is_not_used(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    assemble(tree / "init", WRONG.replace("__SCT__x", "__SCT__work"), "three.o")
    _archive(tree)
    done = call(tree, image_arguments(), env=WARN_ONLY)
    assert done.returncode == 1
    assert ".text+0x30 in g+0x0: not proven: a sibling call" in done.stderr
    assert not (tree / "vmlinux").exists()
    assert not list((tree / COPIES).rglob("*.o"))


def test_a_module_that_is_not_proven_does_not_appear(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    assemble(tree / "fs", WRONG.replace("__SCT__x", "__SCT__work"), "fs.mod.o")
    done: subprocess.CompletedProcess[str] = call(tree, module_arguments(), env=WARN_ONLY)
    assert done.returncode == 1
    assert "[SCP304]" in done.stderr
    assert not list((tree / "fs").glob("*fs.ko"))
