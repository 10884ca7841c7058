"""Linked images: calls by way of the stubs that linkers make for callers without a TOC pointer."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.rewriter import Options, plan_file
from scpatch.verifier.files import verify_files
from tests.images import PACATOC, patched
from tests.tools import LD, assemble, run
from tests.verifier.linked.test_paths import (
    BARE,
    CALLS,
    DISTANCES,
    FAR,
    NAMELESS,
    OPTIONS,
    PLAIN_TRAMPOLINES,
    SAVING,
    SIBLING,
    START,
    link_far,
)

TOC_CALLER = "FRAME d\n bl __SCT__a\n nop\nLEAVE d\n"
"""It comes by the same stubs where the trampoline is out of reach."""


def states(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for site in plan_file(path, Options(strategy=None)).objects[0].scan.sites:
        found.setdefault(site.function, []).append(f"{site.state} {site.code}".strip())
    return found


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_callers_without_a_toc_pointer(tmp_path: Path, how: str, distance: str) -> None:
    path = link_far(
        tmp_path, OPTIONS[how], DISTANCES[distance], assemble(tmp_path, START + CALLS + FAR)
    )
    assert states(path) == {"a": ["notoc"], "b": ["notoc"], "c": ["notoc"]}


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_one_beside_a_caller_with_one(tmp_path: Path, how: str, distance: str) -> None:
    source = START + CALLS + TOC_CALLER + FAR
    path = link_far(tmp_path, OPTIONS[how], DISTANCES[distance], assemble(tmp_path, source))
    assert states(path) == {"a": ["notoc"], "b": ["notoc"], "c": ["notoc"], "d": ["paca"]}
    (verdict,) = verify_files(path, patched(path))
    assert verdict.proof.errors == ()
    seen = {site.function: site.state for site in verdict.proof.sites}
    assert seen == {"a": "notoc", "b": "notoc", "c": "notoc", "d": "paca"}
    assert verdict.proof.paca_toc == PACATOC


@pytest.mark.parametrize("nop", [False, True])
def test_a_direct_call_without_a_toc_pointer(tmp_path: Path, nop: bool) -> None:
    """A nop behind it may align something, or be meant for a restore; a load of the
    TOC pointer does no harm."""
    source = "FUNC __SCT__a\n blr\nEND __SCT__a\n" + BARE.format(name="a", trampoline="__SCT__a")
    path = tmp_path / "image"
    source = source.replace("@notoc", "@notoc\n nop" if nop else "@notoc")
    run(LD, "-o", path, assemble(tmp_path, START + source))
    assert states(path) == {"a": ["paca" if nop else "notoc"]}
    (verdict,) = verify_files(path, patched(path))
    assert verdict.proof.errors == ()


@pytest.mark.parametrize("how", OPTIONS)
def test_those_stubs_help_no_other_caller(tmp_path: Path, how: str) -> None:
    source = CALLS.replace(".localentry b, 1\n", "").replace(
        ".localentry c, 1\n        mflr 0", "mflr 0\n b __SCT__c@notoc"
    )
    path = link_far(
        tmp_path, OPTIONS[how], DISTANCES["near"], assemble(tmp_path, START + source + FAR)
    )
    assert states(path) == {
        "a": ["notoc"],
        "b": ["refused SCP201"],
        "c": ["refused SCP203", "refused SCP201"],
    }


@pytest.mark.parametrize("how", OPTIONS)
def test_sibling_calls_without_a_toc_pointer(tmp_path: Path, how: str) -> None:
    source = START + SIBLING.format(name="f", to="__SCT__a@notoc")
    source += SIBLING.format(name="g", to="saving") + SAVING
    path = link_far(tmp_path, OPTIONS[how], DISTANCES["near"], assemble(tmp_path, source + FAR))
    assert states(path) == {"f": ["notoc"], "g": ["refused SCP203"]}


@pytest.mark.parametrize("lead", ["", "nop"])
@pytest.mark.parametrize("entered", [False, True])
def test_a_nop_that_was_a_branch(tmp_path: Path, lead: str, entered: bool) -> None:
    """The nop is the stub's only where it aligns, and something begins there."""
    source = "FRAME f\n bl stub\n ld 2, 24(1)\nLEAVE f\n"
    if entered:
        source += BARE.format(name="g", trampoline="inner")
    path = tmp_path / "image"
    stub = NAMELESS.format(lead=lead)
    run(LD, "-o", path, assemble(tmp_path, START + source + PLAIN_TRAMPOLINES + stub))
    assert states(path) == ({"f": ["done"], "g": ["notoc"]} if entered and not lead else {})


@pytest.mark.parametrize("how", ["Power10", "no Power10"])
def test_an_address_that_is_anothers(tmp_path: Path, how: str) -> None:
    """Such a stub calls nothing with its address in r12."""
    loads = {
        "Power10": "pla 12, __SCT__b@pcrel\n",
        "no Power10": "mflr 12\n bcl 20,31,0f\n0: mflr 11\n mtlr 12\n addi 12,11,__SCT__b-0b\n",
    }
    for wanted in ("a", "b"):
        stub = f".balign 8\nstub: {loads[how]} b __SCT__{wanted}\n"
        source = START + BARE.format(name="f", trampoline="stub") + stub + PLAIN_TRAMPOLINES
        path = tmp_path / "image"
        run(LD, "-o", path, assemble(tmp_path, source))
        assert states(path) == ({"f": ["notoc"]} if wanted == "b" else {})
