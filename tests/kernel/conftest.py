"""Which kernels a run is about; the kernels and their boots, each done once for all its tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.kernel import selection
from tests.kernel.boot import Log, boot, read_log, says_nothing
from tests.kernel.build import Kernel, build
from tests.kernel.linux import Linux, select
from tests.kernel.results import keep_result
from tests.kernel.store import KernelError, locked
from tests.kernel.variants import NAIVE, REWRITTEN, WITH_DWARF, Variant

Booted = Callable[..., Log]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--linux",
        metavar="VERSION|all",
        help="the kernels: all that Debian has, or versions such as 6.12, with commas between. "
        "Without it the newest, and a short list of tests for the others.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "short: also for kernels that are not tested in full")
    config.addinivalue_line("markers", "thorough: only for kernels that --linux names")
    config.addinivalue_line(
        "markers", "unless(why): not for a kernel for which the function returns a reason"
    )
    try:
        selected = select(config.getoption("linux", None))
    except KernelError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(selection.Plugin(selected), "scpatch-linux")


@pytest.fixture(scope="session")
def linux(request: pytest.FixtureRequest) -> Linux:
    """A kernel of the run; the tests that use it are repeated for each."""
    assert isinstance(request.param, Linux)
    return request.param


@pytest.fixture(scope="session")
def booted(linux: Linux, of_this_run: Path) -> Booted:
    """Boots a variant of the kernel through some steps, once in a test run: also where that
    fails, which may take long."""

    def run(variant: Variant, *steps: str, hash_mmu: bool = False, debug: bool = False) -> Log:
        mmu = "hash" if hash_mmu else "radix"
        scratch = of_this_run / "-".join(["boot", linux.version, variant.name, mmu, *steps])
        scratch.mkdir(exist_ok=True)
        with locked(scratch / "lock"):
            if (scratch / "complete").exists():
                return read_log(scratch / "boot.log")
            if (scratch / "failed").exists():
                raise KernelError((scratch / "failed").read_text())
            try:
                kernel = build(linux, variant)
                boot_it = partial(boot, cpu=variant.cpu, hash_mmu=hash_mmu, debug=debug)
                log = boot_it(kernel, steps, scratch)
                if says_nothing(log):
                    log = boot_it(kernel, steps, scratch)
            except KernelError as error:
                (scratch / "failed").write_text(str(error))
                raise
            keep_result(linux, variant, kernel, log, mmu, steps)
            (scratch / "complete").touch()
            return log

    return run


@pytest.fixture(scope="session")
def naive(linux: Linux) -> Kernel:
    return build(linux, NAIVE)


@pytest.fixture(scope="session")
def rewritten(linux: Linux) -> Kernel:
    return build(linux, REWRITTEN)


@pytest.fixture(scope="session")
def with_dwarf(linux: Linux) -> Kernel:
    return build(linux, WITH_DWARF)
