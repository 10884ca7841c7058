"""The modules of fixtures/stock, built as a user builds external modules."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.kbuild.support import SCRIPT
from tests.kernel.store import logged
from tests.stock.kernels import Stock
from tests.tools import CROSS, FIXTURES, LD, run

NAMES = ("sct_m", "sct_n")
KINDS = ("naive", "rewritten", "linked")
"""Without scpatch; after `scpatch rewrite`; linked by scpatch-ld."""

HOOK = f"{SCRIPT} {LD}"
NO_BTF = "CONFIG_DEBUG_INFO_BTF_MODULES="
"""After the link Kbuild adds type information, if the kernel has it."""

_INCLUDE = "kernel/overlay/arch/powerpc/include"


def build(stock: Stock, folder: Path, linker: str, *words: str) -> list[Path]:
    """Builds the modules in a folder. What is compiled there already is only linked again.

    Raises KernelError with the end of the log where make fails.
    """
    if not (folder / "stock").exists():
        shutil.copytree(FIXTURES / "stock", folder / "stock")
        shutil.copytree(FIXTURES / _INCLUDE, folder / _INCLUDE)
    modules = [folder / "stock" / f"{name}.ko" for name in NAMES]
    for module in modules:
        module.unlink(missing_ok=True)
    command = ["make", "-C", str(stock.tree), f"M={folder / 'stock'}", "ARCH=powerpc"]
    command += [f"CROSS_COMPILE={CROSS}", f"LD={linker}", *words, "modules"]
    environment = {"SCPATCH_PYTHON": sys.executable, "SCPATCH_FLAGS": ""}
    logged(command, folder / "make.log", environment=environment)
    return modules


def make_kinds(stock: Stock, folder: Path) -> None:
    """Makes all kinds of the modules, and `hook-NAME.ko`: by scpatch-ld, without type
    information."""
    naive = build(stock, folder, LD, NO_BTF)
    _keep(naive, "naive")
    _keep(naive, "rewritten")
    copies = [folder / f"rewritten-{name}.ko" for name in NAMES]
    run(sys.executable, "-m", "scpatch", "rewrite", *copies)
    _keep(build(stock, folder, HOOK, NO_BTF), "hook")
    _keep(build(stock, folder, HOOK), "linked")


def _keep(modules: list[Path], kind: str) -> None:
    for module in modules:
        shutil.copy(module, module.parents[1] / f"{kind}-{module.name}")
