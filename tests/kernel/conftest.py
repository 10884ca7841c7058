"""The kernels and their boots, each done once for all tests of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.boot import Log, boot, read_log, says_nothing
from tests.kernel.build import Kernel, build
from tests.kernel.store import KernelError, locked
from tests.kernel.variants import NAIVE, REWRITTEN, WITH_DWARF, Variant

Booted = Callable[..., Log]


@pytest.fixture(scope="session")
def booted(of_this_run: Path) -> Booted:
    """Boots a variant of the kernel through some steps, once in a test run: also where that
    fails, which may take long."""

    def run(variant: Variant, *steps: str, hash_mmu: bool = False, debug: bool = False) -> Log:
        mmu = "hash" if hash_mmu else "radix"
        scratch = of_this_run / "-".join(["boot", variant.name, mmu, *steps])
        scratch.mkdir(exist_ok=True)
        with locked(scratch / "lock"):
            if (scratch / "complete").exists():
                return read_log(scratch / "boot.log")
            if (scratch / "failed").exists():
                raise KernelError((scratch / "failed").read_text())
            try:
                log = boot(build(variant), steps, scratch, hash_mmu=hash_mmu, debug=debug)
                if says_nothing(log):
                    log = boot(build(variant), steps, scratch, hash_mmu=hash_mmu, debug=debug)
            except KernelError as error:
                (scratch / "failed").write_text(str(error))
                raise
            (scratch / "complete").touch()
            return log

    return run


@pytest.fixture(scope="session")
def naive() -> Kernel:
    return build(NAIVE)


@pytest.fixture(scope="session")
def rewritten() -> Kernel:
    return build(REWRITTEN)


@pytest.fixture(scope="session")
def with_dwarf() -> Kernel:
    return build(WITH_DWARF)
