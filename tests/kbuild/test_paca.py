"""The build step with strategy paca for the image, and so callsite for its modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kbuild.support import (
    call,
    image_arguments,
    link,
    make_tree,
    module_arguments,
    stubs,
)
from tests.tools import CROSS, run

FLAGS = {"SCPATCH_FLAGS": "--strategy=paca"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def header(tree: Path) -> Path:
    """asm-offsets.h, where Kbuild makes it."""
    path = tree / "include/generated/asm-offsets.h"
    path.parent.mkdir()
    path.write_text("#define PACATOC 16 /* offsetof(struct paca_struct, kernel_toc) */\n")
    return path


def restores(file: Path) -> list[str]:
    return re.findall(r"\tld +r2,(\d+\(r\d+\))", run(CROSS + "objdump", "-d", file).stdout)


@pytest.mark.usefixtures("header")
def test_vmlinux_loads_r2_from_the_paca(tree: Path) -> None:
    link(tree, env=FLAGS)
    assert restores(tree / "vmlinux") == ["16(r13)"] * 3
    assert not stubs(tree / "vmlinux")


def test_another_offset_makes_other_copies(tree: Path, header: Path) -> None:
    link(tree, env=FLAGS)
    header.write_text("#define PACATOC 8 /* offsetof(struct paca_struct, kernel_toc) */\n")
    link(tree, env=FLAGS)
    assert restores(tree / "vmlinux") == ["8(r13)"] * 3


@pytest.mark.usefixtures("header")
def test_its_modules_are_rewritten_by_callsite(tree: Path) -> None:
    link(tree, module_arguments(), env=FLAGS)
    assert restores(tree / "fs/fs.ko") == ["24(r1)"]
    assert len(stubs(tree / "fs/fs.ko")) == 1


@pytest.mark.usefixtures("header")
def test_it_is_never_put_into_a_module(tree: Path) -> None:
    flags = {"SCPATCH_FLAGS": "--strategy=paca --module-strategy=paca"}
    done = call(tree, module_arguments(), env=flags)
    assert done.returncode == 1
    assert "[SCP220]" in done.stderr
    assert not (tree / "fs/fs.ko").exists()


def test_without_the_offset_there_is_no_vmlinux(tree: Path) -> None:
    done = call(tree, image_arguments(), env=FLAGS)
    assert done.returncode == 1
    assert "[SCP115]" in done.stderr
    assert not (tree / "vmlinux").exists()
    # The modules of such a kernel need none.
    link(tree, module_arguments(), env=FLAGS)
