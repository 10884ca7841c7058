"""The check of the kernel's head after a link of vmlinux."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.kbuild.head import check_head
from tests import archives
from tests.kbuild.support import CALLER, TRAMPOLINE, call, image_arguments, make_tree
from tests.tools import CROSS, LD, assemble, run

HEAD = """
        .globl _stext
        .section .head.text,"ax",@progbits
_stext:
start_first_256B:
        .zero {head}
        text_start = {text_start:#x}
        .text
start_text:
        blr
"""
SCRIPT = "SECTIONS { .head.text 0xc000000000000000 : { *(.head.text) } .text : { *(.text) } }\n"
MOVED = "SECTIONS { .text 0xc000000000000000 : { LONG(0) *(.head.text) *(.text) } }\n"


def image(folder: Path, source: str, script: str = SCRIPT) -> Path:
    assemble(folder, source, "head.o")
    (folder / "script").write_text(script)
    run(LD, "-e0", "-T", "script", "-o", "vmlinux", "head.o", cwd=folder)
    return folder / "vmlinux"


def test_a_head_in_its_place(tmp_path: Path) -> None:
    check_head(image(tmp_path, HEAD.format(head=0x40, text_start=0x40)))


def test_an_image_without_a_head(tmp_path: Path) -> None:
    check_head(image(tmp_path, "start_text: blr\ntext_start = 8\n"))


def test_text_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ScpatchError) as caught:
        check_head(image(tmp_path, HEAD.format(head=0x48, text_start=0x40)))
    assert caught.value.code == "SCP403"
    assert caught.value.message == (
        "the linker moved start_text to 0xc000000000000048; the head expects it at "
        "0xc000000000000040"
    )


def test_the_first_instructions_elsewhere(tmp_path: Path) -> None:
    source = HEAD.format(head=0x40, text_start=0x40).replace("_stext:\n", "_stext: nop\n")
    with pytest.raises(ScpatchError, match="moved start_first_256B to 0xc000000000000004"):
        check_head(image(tmp_path, source))


@pytest.mark.parametrize("strategy", ["callsite", "localentry"])
def test_an_image_that_would_not_boot_is_removed(tmp_path: Path, strategy: str) -> None:
    """The linker's stubs for marked trampolines land before the prelinked .text."""
    tree = make_tree(tmp_path / "tree")
    head = HEAD.format(head=0x40, text_start=0x40)
    assemble(tree / "init", head, "one.o")
    source = '.section .text,"ax"\n' + CALLER.format(name="two")
    assemble(tree / "init", source, "two.o")
    assemble(tree / "lib", TRAMPOLINE, "helper.o")
    for name in ("vmlinux.a", "lib/lib.a"):
        (tree / name).unlink()
    archives.make(tree / "vmlinux.a", "init/one.o", "init/two.o", options="cDPrST")
    archives.make(tree / "lib/lib.a", "helper.o", options="rcsT")
    (tree / "arch/powerpc/kernel/vmlinux.lds").write_text(SCRIPT)
    words = ["-pie", *image_arguments()]
    done = call(tree, words, options=["--prelink", f"--strategy={strategy}"])
    if strategy == "callsite":
        assert done.returncode == 0, done.stderr
        assert "start_text" in run(CROSS + "nm", tree / "vmlinux").stdout
        return
    assert done.returncode == 1
    assert "scpatch: error: vmlinux: the linker moved start_text to 0xc0000000000000" in done.stderr
    assert "hint: link without `--prelink`" in done.stderr
    assert not (tree / "vmlinux").exists()
