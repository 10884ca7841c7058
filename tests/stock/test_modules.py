"""External modules against the headers of a stock kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scpatch.sites.actions import Common
from scpatch.strategies import names
from tests.stock.kernels import Stock
from tests.stock.modules import NAMES
from tests.tools import run, scan_file


def _scpatch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "scpatch", *words, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_hook_links_what_rewrite_makes(modules: Path, name: str) -> None:
    linked, rewritten = (modules / f"{kind}-{name}.ko" for kind in ("hook", "rewritten"))
    assert linked.read_bytes() == rewritten.read_bytes()
    assert linked.read_bytes() != (modules / f"naive-{name}.ko").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_they_are_proven(modules: Path, name: str) -> None:
    old, new = (modules / f"{kind}-{name}.ko" for kind in ("naive", "rewritten"))
    done = _scpatch("verify", "--format", "plain", old, new)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"verdict\t{new}\tproven" in done.stdout.splitlines()
    # A line for each call that was run: before and after.
    assert "failed\tpassed" in done.stdout


def test_calls_of_the_other_module_are_left_to_the_loader(modules: Path) -> None:
    sites = {
        site.function: site.state
        for name in NAMES
        for site in scan_file(modules / f"naive-{name}.ko").sites
    }
    assert sites.pop("sct_n_calls_m") is Common.LOADER
    assert sites.keys() == {"sct_m_calls_m", "sct_n_calls_n"}
    assert Common.LOADER not in sites.values()


REFUSED = {
    "localentry": ("the module defines __SCT__sct_m", "SCP225"),
    "paca": ("a kernel module, in which the PACA's TOC is not r2", "SCP220"),
    "livepatch-stack": (
        "TI_livepatch_sp is not known: a kernel without CONFIG_LIVEPATCH has none",
        "SCP115",
    ),
}
"""Why the other strategies do not serve. Debian's kernels for ppc64el are without livepatch."""


@pytest.mark.parametrize("strategy", REFUSED)
def test_other_strategies_are_refused(
    kernel: Stock, modules: Path, tmp_path: Path, strategy: str
) -> None:
    module, output = modules / "naive-sct_m.ko", tmp_path / "x.ko"
    options = ["--strategy", strategy, "--asm-offsets", str(kernel.asm_offsets), "-o", str(output)]
    done = _scpatch("rewrite", *options, module)
    what, code = REFUSED[strategy]
    assert done.returncode == 1
    assert done.stderr.startswith(f"scpatch: error: {module}: {what} [{code}]\n")
    assert "hint: " in done.stderr
    assert not output.exists()


def test_the_strategies_are_all_there() -> None:
    assert REFUSED.keys() | {"callsite"} == set(names())
