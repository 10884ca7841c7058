"""Runs make in the object trees of a kernel under test."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scpatch.kbuild import copies
from scpatch.kbuild.edit import edit
from tests.kernel import toolchain
from tests.kernel.linux import Linux
from tests.kernel.source import source_tree
from tests.kernel.store import KernelError, logged
from tests.kernel.variants import SCPATCH, Variant
from tests.tools import LLD

TESTS = "arch/powerpc/static_call_test"
JOBS = str(len(os.sched_getaffinity(0)))


def make_command(linux: Linux, tree: Path, variant: Variant) -> list[str]:
    """make for an object tree, which may have the source in it."""
    words = ["nice", "make", f"-j{JOBS}", "-C", str(source_of(linux, tree))]
    words += [] if has_source(tree) else [f"O={tree}"]
    return [*words, "ARCH=powerpc", f"CROSS_COMPILE={variant.cross}", "KBUILD_BUILD_TIMESTAMP=1"]


def source_of(linux: Linux, tree: Path) -> Path:
    return tree if has_source(tree) else source_tree(linux)


def has_source(tree: Path) -> bool:
    return (tree / "Kbuild").exists()


def make(
    linux: Linux, tree: Path, variant: Variant, log: Path, *targets: str, flags: str = ""
) -> str:
    """Builds in place and returns what make has said. From one variant to the next only what
    differs is built again. To be called with the lock held and in `edited`; `flags` are more
    SCPATCH_FLAGS.

    Raises KernelError where make fails; its text is in `log` then.
    """
    dwarf = tree / ".dwarf"
    dwarf.touch() if variant.dwarf else dwarf.unlink(missing_ok=True)
    programs = _programs(tree, variant.cross, toolchain.linker(linux, variant))
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(SCPATCH.parent),
        "SCPATCH_PYTHON": sys.executable,
        "SCPATCH_FLAGS": f"{variant.flags or ''} {flags}".strip(),
        **toolchain.environment(),
    }
    log.unlink(missing_ok=True)
    words = [*make_command(linux, tree, variant), *targets, *toolchain.words(linux, variant)]
    words += variant.words(toolchain.linker(linux, variant))
    logged(words, log, environment=environment)
    return log.read_text()


@contextmanager
def edited(linux: Linux, tree: Path, variant: Variant) -> Iterator[None]:
    """The source of an object tree as the variant wants it; without the step again at the end."""
    source = source_of(linux, tree)
    # A killed run may have left it.
    edit(source, undo=True)
    if variant.in_tree:
        edit(source)
    try:
        yield
    finally:
        edit(source, undo=True)


def _programs(tree: Path, cross: str, linker: str) -> Path:
    """A directory with lld, if that is the linker, under the name by which gcc looks for it when it
    links the vDSO."""
    folder = tree / "programs"
    folder.mkdir(exist_ok=True)
    link = folder / f"{cross}{LLD}"
    link.unlink(missing_ok=True)
    if linker.startswith(LLD):
        lld = shutil.which(linker)
        if lld is None:
            raise KernelError(f"there is no {linker}")
        link.symlink_to(lld)
    return folder


def objtool(linux: Linux, tree: Path, variant: Variant) -> Path:
    """objtool of an object tree. A kernel whose compiler leaves it nothing to do, as gcc 14 does on
    powerpc, is built without it. To be called with the lock held."""
    program = tree / "tools/objtool/objtool"
    if not program.exists():
        words = [*make_command(linux, tree, variant), *toolchain.words(linux, variant)]
        log, environment = tree / "objtool.log", toolchain.environment()
        logged([*words, "tools/objtool"], log, environment=environment)
    return program


def forget_links(tree: Path) -> None:
    """Removes what scpatch has had a hand in. Kbuild would keep what another state of a checkout
    made: the version is the same, only the code is not."""
    images = (tree / "vmlinux", tree / "vmlinux.unstripped")
    for file in (*images, *tree.glob(f"{TESTS}/*.ko")):
        file.unlink(missing_ok=True)
    shutil.rmtree(tree / copies.FOLDER, ignore_errors=True)
