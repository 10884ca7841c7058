"""Builds the kernel under test, once as compilers and linkers make it and once with scpatch."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import scpatch
from scpatch.kbuild import copies
from tests.kernel.source import KERNEL, install, source_key, source_tree
from tests.kernel.store import KernelError, folder, key, locked, logged, tail
from tests.tools import CROSS, LD, run

TESTS = "arch/powerpc/static_call_test"
SCPATCH = Path(scpatch.__file__).parent
JOBS = str(len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Variant:
    """One way to link the kernel. All are made from the same compiled objects, but for DWARF."""

    name: str
    flags: str | None = ""
    """SCPATCH_FLAGS for scpatch-ld; None for a link without scpatch."""
    linker: str = LD
    dwarf: bool = False
    """Whether the directories of DWARF_IN are compiled with debug information."""

    @property
    def rewritten(self) -> bool:
        return self.flags is not None

    @property
    def ld(self) -> str:
        """The make variable LD."""
        front = f"{SCPATCH / 'kbuild' / 'scpatch-ld'} " if self.rewritten else ""
        return front + self.linker


NAIVE = Variant("naive", flags=None)
REWRITTEN = Variant("rewritten")
WITH_DWARF = Variant("dwarf", dwarf=True)
VARIANTS = (NAIVE, REWRITTEN, WITH_DWARF)
"""All that `test_rewritten` boots, and the one without scpatch."""


@dataclass(frozen=True)
class Kernel:
    """The products of a build. The names of modules are those of their files, with `.ko`."""

    vmlinux: Path
    modules: tuple[Path, ...]
    init: Path
    """The program that is the kernel's user space, statically linked."""


def build(variant: Variant) -> Kernel:
    """The kernel, from the cache where it is there.

    Raises KernelError with the end of the log where a step fails.
    """
    with locked(folder() / "lock"):
        install()
        tree = _object_tree()
        for one in _in_order(tree):
            if not (_products(tree, one) / ".complete").exists():
                _make(tree, one)
                _keep(tree, _products(tree, one))
            os.utime(_products(tree, one))
            if one == variant:
                break
        products = _products(tree, variant)
        modules = tuple(sorted(products.glob("*.ko")))
        return Kernel(products / "vmlinux", modules, _init(tree))


def _in_order(tree: Path) -> list[Variant]:
    """All variants, such that little is compiled again from one to the next in the object tree."""
    last = tree / ".dwarf"
    return sorted(VARIANTS, key=lambda one: (one.rewritten, one.dwarf != last.exists(), one.linker))


def _products(tree: Path, variant: Variant) -> Path:
    """Where the products are kept; with all of scpatch in the name of rewritten ones."""
    code = _key_of_scpatch() if variant.rewritten else ""
    return tree / "products" / f"{variant.name}-{key(code, Path(__file__))}"


@cache
def _key_of_scpatch() -> str:
    return key(SCPATCH)


def _object_tree() -> Path:
    """A configured object tree; others, of an old source or configuration, are removed."""
    tools = [run(CROSS + "gcc", "--version").stdout, run(LD, "--version").stdout]
    tree = folder() / f"objects-{key(source_key(), KERNEL / 'config', *tools)}"
    if not (tree / ".config").exists():
        for old in folder().glob("objects-*"):
            shutil.rmtree(old)
        tree.mkdir()
        log = tree / "config.log"
        chosen = {"KCONFIG_ALLCONFIG": str(KERNEL / "config")}
        logged([*_make_command(tree), "allnoconfig"], log, environment=chosen)
        _check_config(tree)
    return tree


def _check_config(tree: Path) -> None:
    """Raises KernelError: an option that is asked for was dropped."""
    have = set((tree / ".config").read_text().splitlines())
    asked = (KERNEL / "config").read_text().splitlines()
    if missing := [line for line in asked if line.startswith("CONFIG_") and line not in have]:
        (tree / ".config").unlink()
        raise KernelError(f"the configuration lacks {' '.join(missing)}")


def _make_command(tree: Path) -> list[str]:
    words = ["nice", "make", "-C", str(source_tree()), f"O={tree}", f"-j{JOBS}"]
    return [*words, "ARCH=powerpc", f"CROSS_COMPILE={CROSS}", "KBUILD_BUILD_TIMESTAMP=1"]


def _make(tree: Path, variant: Variant) -> None:
    """Builds in place. From one variant to the next only what differs is made anew."""
    words = [*_make_command(tree), "vmlinux", "modules", f"LD={variant.ld}"]
    if variant.dwarf:
        words.append("TEST_CFLAGS=-g")
    _forget_links(tree)
    log = tree / f"{variant.name}.log"
    log.unlink(missing_ok=True)
    dwarf = tree / ".dwarf"
    dwarf.touch() if variant.dwarf else dwarf.unlink(missing_ok=True)
    environment = {"SCPATCH_PYTHON": sys.executable, "SCPATCH_FLAGS": variant.flags or ""}
    logged(words, log, environment=environment)
    text = log.read_text()
    if "WARNING" in text or "warning:" in text:
        raise KernelError(f"the build has warnings\n{tail(log)}")


def _forget_links(tree: Path) -> None:
    """Removes what scpatch has had a hand in. Kbuild would keep what another state of a checkout
    made: the version is the same, only the code is not."""
    for file in (tree / "vmlinux", *tree.glob(f"{TESTS}/*.ko")):
        file.unlink(missing_ok=True)
    shutil.rmtree(tree / copies.FOLDER, ignore_errors=True)


def _keep(tree: Path, products: Path) -> None:
    """Copies what a boot and the tests need, and drops what no test run has used for a day."""
    for old in products.parent.glob("*"):
        if old.stat().st_mtime < time.time() - 24 * 3600:
            shutil.rmtree(old)
    shutil.rmtree(products, ignore_errors=True)
    products.mkdir(parents=True)
    names = ["vmlinux", "vmlinux.o", "System.map"]
    files = [tree / name for name in names]
    files += sorted(tree.glob(f"{TESTS}/*.ko"))
    for file in files:
        shutil.copy(file, products)
    (products / ".complete").touch()


def _init(tree: Path) -> Path:
    program = tree / f"init-{key(KERNEL / 'init.c')}"
    if not program.exists():
        new = program.with_suffix(".new")
        warnings = ["-Wall", "-Wextra", "-Werror"]
        source = KERNEL / "init.c"
        logged([CROSS + "gcc", "-O2", "-static", *warnings, "-o", new, source], tree / "init.log")
        new.replace(program)
    return program
