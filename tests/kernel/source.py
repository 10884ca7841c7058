"""The kernel's source: Debian's package, unpacked, and a tree of it with the overlay."""

from __future__ import annotations

import shutil
import sys
from functools import cache
from pathlib import Path

from tests.debian import ALL, Lists, Package, newest, unpacked
from tests.kernel.store import folder, key, logged
from tests.tools import FIXTURES

SOURCE = Lists("bookworm", ALL)
"""Which Debian the kernel's source is from."""
KERNEL = FIXTURES / "kernel"

DWARF_IN = ("arch/powerpc/static_call_test", "kernel/sched", "mm")
"""The directories that have DWARF where the make variable TEST_CFLAGS says so: much of what calls
statically lies there, and compiling everything twice would take too long."""

SKIPPED = ("arch/arm/boot/dts", "arch/arm64/boot/dts", "drivers/gpu/drm/amd/include")
"""Bulky parts of the source that are not compiled."""


def install() -> None:
    """Installs the Debian packages that are missing. Raises KernelError where that fails."""
    log = folder() / "install.log"
    log.unlink(missing_ok=True)
    logged(["sh", FIXTURES / "setup.sh", "kernel"], log)


@cache
def package() -> Package:
    """The package with the source."""
    return newest(r"linux-source-[0-9.]+", SOURCE)


def source_key() -> str:
    return key(package().version, KERNEL / "overlay", KERNEL / "apply.py", Path(__file__))


def source_tree() -> Path:
    """A source tree with the overlay, made where it is missing. To be called with the lock held."""
    tree = folder() / f"source-{source_key()}"
    if (tree / ".complete").exists():
        return tree
    log = folder() / "source.log"
    log.unlink(missing_ok=True)
    pristine = _unpacked(log)
    for old in folder().glob("source-*"):
        shutil.rmtree(old)
    logged(["cp", "-al", pristine, tree], log)
    logged([sys.executable, KERNEL / "apply.py", tree], log)
    for name in DWARF_IN:
        makefile = tree / name / "Makefile"
        text = makefile.read_text() + "ccflags-y += $(TEST_CFLAGS)\n"
        makefile.unlink()
        makefile.write_text(text)
    (tree / ".complete").touch()
    return tree


def _unpacked(log: Path) -> Path:
    """The source as the package has it, but for SKIPPED."""
    tree = folder() / f"pristine-{key(package().version, *SKIPPED)}"
    if (tree / ".complete").exists():
        return tree
    for old in folder().glob("pristine-*"):
        shutil.rmtree(old)
    tree.mkdir()
    name = package().name
    exclude = [f"--exclude={name}/{skipped}" for skipped in SKIPPED]
    archive = unpacked(package()) / f"usr/src/{name}.tar.xz"
    logged(["tar", "-x", "--strip-components=1", "-C", tree, *exclude, "-f", archive], log)
    (tree / ".complete").touch()
    return tree
