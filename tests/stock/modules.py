"""The modules of fixtures/stock, built as a user builds external modules."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.kernel.store import logged
from tests.stock.kernels import Stock
from tests.tools import CROSS, FIXTURES, LD, run

NAMES = ("sct_m", "sct_n")
KINDS = ("naive", "rewritten")
"""Without scpatch; after `scpatch rewrite`."""

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
    logged(command, folder / "make.log")
    return modules


def make_kinds(stock: Stock, folder: Path) -> None:
    """Makes all kinds of the modules."""
    naive = build(stock, folder, LD)
    _keep(naive, "naive")
    _keep(naive, "rewritten")
    copies = [folder / f"rewritten-{name}.ko" for name in NAMES]
    run(sys.executable, "-m", "scpatch", "rewrite", *copies)


def _keep(modules: list[Path], kind: str) -> None:
    for module in modules:
        shutil.copy(module, module.parents[1] / f"{kind}-{module.name}")
