"""Hosts without wheels of lief, capstone or keystone: every command gives the same results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scpatch.api import list_strategies
from tests.faults.test_start import without
from tests.tools import FIXTURES, has_wheels

LIBRARIES = ("capstone", "keystone", "lief")
MISSING = [(), *((name,) for name in LIBRARIES), LIBRARIES]
"""What is not installed: nothing, each, and all, as on ppc64le."""
STRATEGIES = [strategy.name for strategy in list_strategies()]


@pytest.fixture
def offsets(tmp_path: Path) -> Path:
    path = tmp_path / "asm-offsets.h"
    fields = {"PACATOC": 16, "PACA_THREAD_INFO": 2312, "TI_livepatch_sp": 16}
    path.write_text("".join(f"#define {name} {value}\n" for name, value in fields.items()))
    return path


@pytest.mark.parametrize("command", ["scan", "advise"])
@pytest.mark.parametrize("name", ["sites.o", "calls-gcc-dwarf.o", "module.ko", "members.a"])
def test_reports_are_the_same(command: str, name: str) -> None:
    arguments = (command, "--format", "json", FIXTURES / name)
    full, *others = (without(missing, *arguments, check=True).stdout for missing in MISSING)
    assert json.loads(full)["files"]
    assert set(others) == {full}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_files_and_proofs_are_the_same(tmp_path: Path, offsets: Path, strategy: str) -> None:
    """Each strategy, with the differences shown; then the proof, with what was missing."""
    before = FIXTURES / "calls-gcc-dwarf.o"
    results = []
    for number, missing in enumerate(MISSING):
        after = tmp_path / f"{number}.o"
        options = ("--strategy", strategy, "--asm-offsets", offsets, "--diff", "-o", after)
        told = without(missing, "rewrite", *options, before, check=True).stdout
        proof = _verify(missing, offsets, before, after)
        results.append((after.read_bytes(), told.replace(str(after), ""), proof))
    assert b"__SCT__" in results[0][0]
    assert results[0][2]["proven"]
    assert all(result == results[0] for result in results)


def _verify(missing: tuple[str, ...], offsets: Path, before: Path, after: Path) -> Any:
    """The document of a proof, without what differs between hosts, which is checked."""
    options = ("--no-run", "--format", "json", "--asm-offsets", offsets)
    document = json.loads(without(missing, "verify", *options, before, after, check=True).stdout)
    (file,) = document["files"]
    del file["file"]
    opinion, disassembler = file.pop("second_opinion"), file.pop("disassembler")
    assert opinion.startswith(
        "pyelftools " if "lief" in missing or not has_wheels("lief") else "LIEF "
    )
    assert disassembler.startswith(
        "GNU objdump " if "capstone" in missing or not has_wheels("capstone") else "capstone "
    )
    return document


@pytest.mark.parametrize("name", ["diff", "verify"])
def test_without_capstone_and_objdump(
    tmp_path: Path, offsets: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only thing that cannot be done: nothing is left that decodes instructions."""
    before, after = FIXTURES / "calls-gcc-dwarf.o", tmp_path / "x.o"
    without((), "rewrite", "-o", after, before, check=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CROSS_COMPILE", "nowhere-")
    options = ["--no-run"] if name == "verify" else []
    done = without(LIBRARIES, name, *options, before, after)
    assert done.returncode == 2
    assert (
        "scpatch: error: nowhere-objdump is needed to decode instructions, since capstone is not "
        "installed, and is not installed [SCP301]"
    ) in done.stderr
    assert "pip install capstone" in done.stderr


def test_an_image_without_libraries(tmp_path: Path) -> None:
    """The proof of what was linked."""
    full, bare = (
        json.loads(without(missing, "verify", "--format", "json", FIXTURES / "linked.so").stdout)
        for missing in ((), LIBRARIES)
    )
    usual = "capstone " if has_wheels("capstone") else "GNU objdump "
    assert full["files"][0].pop("disassembler").startswith(usual)
    assert bare["files"][0].pop("disassembler").startswith("GNU objdump ")
    assert full == bare
