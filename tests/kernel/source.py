"""The kernel's source: Debian's package, unpacked, and a tree of it with the overlay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kernel.store import KernelError, folder, key, logged
from tests.tools import FIXTURES

PACKAGE = "linux-source-6.1"
ARCHIVE = Path(f"/usr/src/{PACKAGE}.tar.xz")
KERNEL = FIXTURES / "kernel"

NEEDED = {
    "bc": "bc",
    "bison": "bison",
    "cpio": "cpio",
    "flex": "flex",
    "make": "make",
    "qemu-system-ppc64": "qemu-system-ppc",
    "xz": "xz-utils",
}
"""What a kernel's build and boot need beside the tools of the other tests, and the packages."""

DWARF_IN = ("arch/powerpc/static_call_test", "kernel/sched", "mm")
"""The directories that have DWARF where the make variable TEST_CFLAGS says so: much of what calls
statically lies there, and compiling everything twice would take too long."""

SKIPPED = ("arch/arm/boot/dts", "arch/arm64/boot/dts", "drivers/gpu/drm/amd/include")
"""Bulky parts of the source that are not compiled."""


def install() -> None:
    """Installs the Debian packages that are missing.

    Raises KernelError: some are, and this is not root, or apt-get failed.
    """
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if not ARCHIVE.is_file():
        missing.append(PACKAGE)
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise KernelError(f"these Debian packages are missing: {' '.join(missing)}")
    log = folder() / "install.log"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    logged(["apt-get", "-q", "update"], log, environment=quiet)
    install = ["apt-get", "-q", "-y", "install", "--no-install-recommends"]
    logged([*install, *missing], log, environment=quiet)


def version() -> str:
    """The installed version of the source package."""
    query = ["dpkg-query", "-W", "-f", "${Version}", PACKAGE]
    done = subprocess.run(query, text=True, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else str(ARCHIVE.stat().st_mtime_ns)


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
    exclude = [f"--exclude={PACKAGE}/{name}" for name in SKIPPED]
    logged(["tar", "-x", "--strip-components=1", "-C", tree, *exclude, "-f", ARCHIVE], log)
    (tree / ".complete").touch()
    return tree
