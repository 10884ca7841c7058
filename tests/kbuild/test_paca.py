"""The build step with strategy paca for the image, and so callsite for its modules; and auto, which
is the same wherever that is possible."""

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


AUTO = "--strategy=auto"


def _chosen(tree: Path, flags: str = AUTO) -> str:
    """The strategy for vmlinux that V=1 names."""
    done = link(tree, env={"SCPATCH_FLAGS": flags, "KBUILD_VERBOSE": "1"})
    (chosen,) = re.findall(r"^\+ scpatch --strategy=(\S+)$", done.stderr, re.MULTILINE)
    return str(chosen)


@pytest.mark.usefixtures("header")
def test_auto_gives_the_same_image_and_modules(tree: Path) -> None:
    images, modules = [], []
    for flags in (FLAGS, {"SCPATCH_FLAGS": AUTO}):
        link(tree, env=flags)
        link(tree, module_arguments(), env=flags)
        images.append((tree / "vmlinux").read_bytes())
        modules.append((tree / "fs/fs.ko").read_bytes())
    assert images[0] == images[1]
    assert modules[0] == modules[1]


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("#define PACATOC 16 /* */\n", "", "paca"),
        ("#define PACATOC 8 /* */\n", "--hoist=never --prelink", "paca"),
        ("#define PACATOC 16 /* */\n", "--no-nop=thunk", "callsite"),
        ("#define PACATOC 16 /* */\n", "--unmark", "callsite"),
        ("#define PACATOC 32768 /* */\n", "", "callsite"),
        ("#define PACATOC 18 /* */\n", "", "callsite"),
        # A kernel with PPC_KERNEL_PCREL.
        ("#define PACA_THREAD_INFO 24 /* */\n", "", "callsite"),
        ("#define PACA_THREAD_INFO 24 /* */\n", "--paca-toc-offset=16", "paca"),
    ],
)
def test_auto_takes_paca_if_nothing_speaks_against_it(
    tree: Path, header: Path, text: str, flags: str, expected: str
) -> None:
    header.write_text(text)
    assert _chosen(tree, f"{AUTO} {flags}") == expected
    offset = text.split()[2] if "PACATOC" in text else "16"
    restore = "24(r1)" if expected == "callsite" else f"{offset}(r13)"
    assert set(restores(tree / "vmlinux")) == {restore}


def test_auto_is_callsite_without_offsets(tree: Path) -> None:
    assert _chosen(tree) == "callsite"
    assert len(stubs(tree / "vmlinux")) == 3


def test_auto_sees_that_the_kernel_has_other_offsets_now(tree: Path, header: Path) -> None:
    text = header.read_text()
    without = "#define PACA_THREAD_INFO 24 /* */\n"
    for now, expected in ((without, "callsite"), (text, "paca"), (without, "callsite")):
        header.write_text(now)
        assert _chosen(tree) == expected
        assert len(stubs(tree / "vmlinux")) == (3 if expected == "callsite" else 0)


def test_the_offsets_are_those_of_the_kernels_tree(tree: Path, header: Path) -> None:
    """Kbuild names it in `objtree`. Since Linux 6.13 an external module is linked elsewhere."""
    kernel = tree.parent / "kernel"
    (kernel / "include").mkdir(parents=True)
    header.parent.rename(kernel / "include/generated")
    assert "[SCP115]" in call(tree, image_arguments(), env=FLAGS).stderr
    link(tree, env={**FLAGS, "objtree": str(kernel)})
    assert restores(tree / "vmlinux") == ["16(r13)"] * 3
