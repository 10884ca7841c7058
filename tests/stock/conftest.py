"""Stock kernels, the modules for each, and a boot of each, done once for all tests of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.boot import Log, boot, read_log
from tests.kernel.build import Kernel
from tests.kernel.store import KernelError, locked
from tests.stock.kernels import Stock, own_release, stock
from tests.stock.modules import KINDS, NAMES, make_kinds
from tests.tools import CROSS, FIXTURES, run


@pytest.fixture(scope="session", params=["newest", "release"])
def kernel(request: pytest.FixtureRequest, of_this_run: Path) -> Stock:
    """The newest for this machine's Debian, which may be a backport, and the release's own."""
    own = own_release()
    releases = [f"{own}-backports", own] if request.param == "newest" else [own]

    def fetch(_: Path) -> None:
        stock(releases)

    _once(of_this_run / f"fetched-{request.param}", fetch)
    return stock(releases)


@pytest.fixture(scope="session")
def modules(kernel: Stock, of_this_run: Path) -> Path:
    """A folder with KIND-NAME.ko for all kinds and names."""
    return _once(of_this_run / f"modules-{kernel.release}", lambda path: make_kinds(kernel, path))


@pytest.fixture(scope="session")
def log(kernel: Stock, modules: Path, of_this_run: Path) -> Log:
    """What the kernel says with each kind of the modules, one after the other."""

    def make(scratch: Path) -> None:
        init = scratch / "init"
        source = FIXTURES / "kernel" / "init.c"
        run(CROSS + "gcc", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", init, source)
        files = tuple(modules / f"{kind}-{name}.ko" for kind in KINDS for name in NAMES)
        products = Kernel(kernel.vmlinux, files, init)
        boot(products, [f"stock/{kind}" for kind in KINDS], scratch, processors=1)

    return read_log(_once(of_this_run / f"boot-{kernel.release}", make) / "boot.log")


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Has a folder filled once in a test run, also where that fails: it may take long.

    Raises KernelError where it fails, or has failed.
    """
    folder.mkdir(exist_ok=True)
    with locked(folder / ".lock"):
        if (folder / ".failed").exists():
            raise KernelError((folder / ".failed").read_text())
        if not (folder / ".complete").exists():
            try:
                make(folder)
            except KernelError as error:
                (folder / ".failed").write_text(str(error))
                raise
            (folder / ".complete").touch()
    return folder
