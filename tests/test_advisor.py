"""`scpatch advise`: what is possible, and what is taken; held against what `rewrite` then does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from scpatch import strategies
from scpatch.advisor import RULE, Advice, Outlook, advise
from scpatch.elf.reader import ElfFile
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options
from scpatch.rewriter import object as planning
from scpatch.sites.choices import Choices
from scpatch.sites.model import Scan
from scpatch.strategies.base import Cost
from scpatch.strategies.scan import scan
from tests.tools import CROSS, FIXTURES, LD, ROOT, assemble, in_both, run

MODULE = FIXTURES / "module.ko"
OBJECT = FIXTURES / "merged.o"
OFFSETS = Offsets(paca_toc=16, paca_thread_info=24, livepatch_sp=32)


def scpatch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scpatch", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def advised(path: Path, *, image: bool = False, offsets: Offsets = OFFSETS) -> Advice:
    options = Options(undefined="rewrite", hoist="kernel") if image else Options()
    return advise(path, options._replace(offsets=offsets), image=image)


def outlook(advice: Advice, name: str) -> Outlook:
    (result,) = [outlook for outlook in advice.outlooks if outlook.strategy == name]
    return result


def test_every_strategy_is_looked_at() -> None:
    advice = advised(OBJECT)
    assert [outlook.strategy for outlook in advice.outlooks] == list(strategies.names())
    assert advice.kind == "object"
    assert advice.sites > 0


def test_an_object_that_may_go_into_a_module() -> None:
    """PACA would be the cheapest, and is wrong there."""
    advice = advised(OBJECT)
    assert outlook(advice, "paca").possible
    assert outlook(advice, "paca").image_only
    assert advice.recommended == "callsite"


def test_an_object_of_the_image() -> None:
    assert advised(OBJECT, image=True).recommended == "paca"
    assert advised(OBJECT, image=True, offsets=Offsets()).recommended == "callsite"


def test_what_is_not_known_makes_it_impossible() -> None:
    expected = outlook(advised(OBJECT, offsets=Offsets()), "paca")
    assert (expected.possible, expected.code, expected.sites) == (False, "SCP115", 0)
    assert "PACATOC" in expected.reason


def test_a_module() -> None:
    advice = advised(MODULE)
    assert (advice.kind, advice.recommended) == ("kernel module", "callsite")
    assert outlook(advice, "paca").code == "SCP220"
    assert outlook(advice, "localentry").code == "SCP225"


def test_a_linked_image(tmp_path: Path) -> None:
    source = "FRAME _start\nCALL __SCT__x\nLEAVE _start\nFUNC __SCT__x\n blr\nEND __SCT__x\n"
    image = tmp_path / "vmlinux"
    run(LD, "-o", image, assemble(tmp_path, source))
    advice = advised(image)
    assert (advice.kind, advice.recommended) == ("linked image", "paca")
    assert not outlook(advice, "callsite").possible


def test_a_file_that_was_rewritten(tmp_path: Path) -> None:
    after = tmp_path / "after.o"
    assert scpatch("rewrite", OBJECT, "-o", after).returncode == 0
    advice = advised(after)
    assert advice.applied == ("callsite",)
    assert outlook(advice, "localentry").code == "SCP114"
    assert advice.recommended == ""


@pytest.mark.parametrize("call", ["", " bl __SCT__x@notoc\n"])
def test_nothing_to_do(tmp_path: Path, call: str) -> None:
    path = assemble(tmp_path, f"FUNC f\n{call} blr\nEND f\n")
    assert advised(path).recommended == ""
    assert "nothing to do" in scpatch("advise", path, "--format", "text").stdout


def test_calls_that_are_refused_count_first() -> None:
    advice = advised(FIXTURES / "refused.o")
    least = min(
        outlook.left for outlook in advice.outlooks if not outlook.image_only and outlook.sites
    )
    assert outlook(advice, advice.recommended).left == least
    assert "SCP203" in outlook(advice, "callsite").codes


@pytest.mark.parametrize("name", in_both(OBJECT.name, "members.a", MODULE.name))
def test_it_says_what_rewrite_then_does(name: str, tmp_path: Path) -> None:
    expected = outlook(advised(FIXTURES / name), "callsite")
    done = scpatch(
        "rewrite", FIXTURES / name, "-o", tmp_path / "x", "--format", "json", "--keep-going"
    )
    objects = json.loads(done.stdout)["files"][0]["objects"]
    assert expected.stubs == sum(len(entry["stubs"]) for entry in objects)
    assert expected.code_bytes == sum(entry["code_bytes"] for entry in objects)
    states = [site["state"] for entry in objects for site in entry["sites"]]
    assert expected.sites == sum(state in ("rewrite", "saved") for state in states)
    assert expected.free == states.count("saved")
    assert expected.left == states.count("refused")
    assert expected.same == pytest.approx(2 * states.count("rewrite") / expected.sites)


def test_the_cheapest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the strategies say that they cost: were callsite dear, another would be taken."""
    module = strategies.load("callsite")
    cheap = dict(module.cost(Offsets()))
    dear = {state: Cost(99, 99) for state in cheap}
    monkeypatch.setattr(module, "cost", lambda options: dear)
    assert advised(OBJECT, image=True, offsets=Offsets()).recommended == "localentry"


@pytest.mark.parametrize("name", [OBJECT.name, "members.a", "thin.a"])
def test_each_file_is_opened_and_scanned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever number of strategies plans it."""
    path = FIXTURES / name
    files = [path]
    if name == "thin.a":
        path, files = tmp_path / name, [tmp_path / "a.o", tmp_path / "b.o"]
        for file in files:
            file.write_bytes(OBJECT.read_bytes())
        run(CROSS + "ar", "rcT", path, *files)
        files.append(path)
    opened: list[str] = []
    scanned: list[str] = []
    real_open, real_scan = os.open, scan

    def count_open(file: str | Path, *rest: object, **more: object) -> int:
        opened.append(os.fspath(file))
        return real_open(file, *rest, **more)  # type: ignore[arg-type]

    def count_scan(elf: ElfFile, choices: Choices) -> Scan:
        scanned.append(elf.name)
        return real_scan(elf, choices)

    monkeypatch.setattr(os, "open", count_open)
    monkeypatch.setattr(planning, "scan", count_scan)
    assert len(advised(path).outlooks) == len(strategies.names())
    assert sorted(opened) == sorted(map(str, files))
    assert len(scanned) == len(set(scanned)) > 0


def test_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / OBJECT.name
    path.write_bytes(OBJECT.read_bytes())
    before = path.stat()
    assert scpatch("advise", path, "--paca-toc-offset", "16").returncode == 0
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_the_table() -> None:
    done = scpatch("advise", OBJECT, MODULE, "--paca-toc-offset", "16", "--format", "text")
    assert done.returncode == 0
    assert done.stderr == ""
    text = " ".join(done.stdout.split())
    assert text.count("take callsite") == 2
    assert "localentry: SCP225 the module defines" in text
    assert text.endswith(RULE)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json() -> None:
    done = scpatch("advise", OBJECT, MODULE, FIXTURES / "members.a", "--format", "json")
    document = json.loads(done.stdout)
    schema = json.loads((ROOT / "scpatch/report/schema.json").read_text())
    jsonschema.validate(document, schema)
    assert document["rule"] == RULE
    kinds = [entry["kind"] for entry in document["files"]]
    assert kinds == ["object", "kernel module", "archive"]


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    done = scpatch("advise", tmp_path / "none.o", OBJECT, "--format", "plain")
    assert done.returncode == 2
    assert "none.o" in done.stderr
    assert "\ttake\t" in done.stdout
    wrong = scpatch("advise", FIXTURES / "x86_64.o")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_offsets_from_a_file(tmp_path: Path) -> None:
    header = tmp_path / "asm-offsets.h"
    header.write_text("#define PACATOC 16 /* x */\n")
    done = scpatch("advise", "--image", "--asm-offsets", header, OBJECT, "--format", "plain")
    taken = [line.split("\t")[2] for line in done.stdout.splitlines() if "\ttake\t" in line]
    assert taken == ["paca"]
