"""The kernel's source: Debian's package, unpacked, and a tree of it with the overlay."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.kernel.debian import Package, field, unpacked
from tests.kernel.store import folder, key, logged
from tests.tools import FIXTURES

SOURCE = Package("linux-source-6.1", "bookworm")
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


def version() -> str:
    """The version of the source package."""
    return field(unpacked(SOURCE), "Version")


def source_key() -> str:
    return key(version(), KERNEL / "overlay", KERNEL / "apply.py", Path(__file__))


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
    tree = folder() / f"pristine-{key(version(), *SKIPPED)}"
    if (tree / ".complete").exists():
        return tree
    for old in folder().glob("pristine-*"):
        shutil.rmtree(old)
    tree.mkdir()
    exclude = [f"--exclude={SOURCE.name}/{name}" for name in SKIPPED]
    archive = unpacked(SOURCE) / f"usr/src/{SOURCE.name}.tar.xz"
    logged(["tar", "-x", "--strip-components=1", "-C", tree, *exclude, "-f", archive], log)
    (tree / ".complete").touch()
    return tree
