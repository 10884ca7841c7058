"""The kernel's source: Debian's package, unpacked, and a tree of it with the overlay."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.debian import unpacked
from tests.kernel.linux import Linux
from tests.kernel.store import folder, key, locked, logged, made
from tests.tools import FIXTURES

KERNEL = FIXTURES / "kernel"

DWARF_IN = ("arch/powerpc/static_call_test", "kernel/sched", "mm")
"""The directories that have DWARF where the make variable TEST_CFLAGS says so: much of what calls
statically lies there, and compiling everything twice would take too long."""

SKIPPED = ("arch/arm/boot/dts", "arch/arm64/boot/dts", "drivers/gpu/drm/amd/include")
"""Bulky parts of the source that are not compiled."""


def install(*programs: str) -> None:
    """Installs the Debian packages that are missing, and those with more programs.

    Raises KernelError where that fails.
    """
    log = folder() / "install.log"
    log.unlink(missing_ok=True)
    logged(["sh", FIXTURES / "setup.sh", "kernel", *programs], log)


def source_key(linux: Linux) -> str:
    return key(linux.package.version, KERNEL / "overlay", KERNEL / "apply.py", Path(__file__))


def source_tree(linux: Linux) -> Path:
    """A source tree with the overlay, made where it is missing. To be called with the lock held."""
    tree = linux.folder / "source"
    with made(tree, source_key(linux)) as missing:
        if missing:
            log = linux.folder / "source.log"
            log.unlink(missing_ok=True)
            tree.rmdir()
            logged(["cp", "-al", pristine_tree(linux), tree], log)
            logged([sys.executable, KERNEL / "apply.py", tree], log)
            for name in DWARF_IN:
                makefile = tree / name / "Makefile"
                text = makefile.read_text() + "ccflags-y += $(TEST_CFLAGS)\n"
                makefile.unlink()
                makefile.write_text(text)
    return tree


def pristine_tree(linux: Linux) -> Path:
    """The source as the package has it, but for SKIPPED. It has a lock of its own."""
    tree = linux.folder / "pristine"
    wanted = key(linux.package.version, *SKIPPED)
    with locked(linux.folder / "pristine.lock"), made(tree, wanted) as missing:
        if missing:
            log = linux.folder / "unpack.log"
            log.unlink(missing_ok=True)
            name = linux.package.name
            archive = unpacked(linux.package) / f"usr/src/{name}.tar.xz"
            command = ["tar", "-xf", str(archive), "--strip-components=1", "-C", str(tree)]
            logged([*command, *(f"--exclude={name}/{skipped}" for skipped in SKIPPED)], log)
    return tree
