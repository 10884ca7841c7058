"""Runs make in the object tree of the kernel under test."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scpatch.kbuild import copies
from scpatch.kbuild.edit import edit
from tests.kernel.source import source_tree
from tests.kernel.store import KernelError, logged
from tests.kernel.variants import SCPATCH, Variant
from tests.tools import CROSS

TESTS = "arch/powerpc/static_call_test"
JOBS = str(len(os.sched_getaffinity(0)))


def make_command(tree: Path) -> list[str]:
    words = ["nice", "make", "-C", str(source_tree()), f"O={tree}", f"-j{JOBS}"]
    return [*words, "ARCH=powerpc", f"CROSS_COMPILE={CROSS}", "KBUILD_BUILD_TIMESTAMP=1"]


def make(tree: Path, variant: Variant, log: Path, *targets: str, flags: str = "") -> str:
    """Builds in place and returns what make has said. From one variant to the next only what
    differs is built again. To be called with the lock held and in `edited`; `flags` are more
    SCPATCH_FLAGS.

    Raises KernelError where make fails; its text is in `log` then.
    """
    dwarf = tree / ".dwarf"
    dwarf.touch() if variant.dwarf else dwarf.unlink(missing_ok=True)
    environment = {
        "PATH": f"{_programs(tree)}:{os.environ['PATH']}",
        "PYTHONPATH": str(SCPATCH.parent),
        "SCPATCH_PYTHON": sys.executable,
        "SCPATCH_FLAGS": f"{variant.flags or ''} {flags}".strip(),
    }
    log.unlink(missing_ok=True)
    logged([*make_command(tree), *targets, *variant.words], log, environment=environment)
    return log.read_text()


@contextmanager
def edited(variant: Variant) -> Iterator[None]:
    """The source tree as the variant wants it; without the step again at the end."""
    tree = source_tree()
    # A killed run may have left it.
    edit(tree, undo=True)
    if variant.in_tree:
        edit(tree)
    try:
        yield
    finally:
        edit(tree, undo=True)


def _programs(tree: Path) -> Path:
    """A directory with lld under the name by which gcc looks for it when it links the vDSO."""
    lld = shutil.which("ld.lld")
    if lld is None:
        raise KernelError("there is no ld.lld")
    folder = tree / "programs"
    folder.mkdir(exist_ok=True)
    link = folder / f"{CROSS}ld.lld"
    link.unlink(missing_ok=True)
    link.symlink_to(lld)
    return folder


def forget_links(tree: Path) -> None:
    """Removes what scpatch has had a hand in. Kbuild would keep what another state of a checkout
    made: the version is the same, only the code is not."""
    for file in (tree / "vmlinux", *tree.glob(f"{TESTS}/*.ko"), *tree.rglob("*.scpatch.a")):
        file.unlink(missing_ok=True)
    shutil.rmtree(tree / copies.FOLDER, ignore_errors=True)
