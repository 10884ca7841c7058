"""Calls that the assembler has resolved: the proof decodes them, checks changes, and runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.verifier.files import verify_files
from scpatch.verifier.objects.calls import find_calls
from scpatch.verifier.objects.read import read
from scpatch.verifier.tools import find_tools
from scpatch.verifier.verdict import Result
from tests.awkward import LOCAL, SOURCES
from tests.bigendian import prove_both
from tests.test_cli import scpatch
from tests.tools import BL, LD_R2, NOP, assemble, rewritten, section, symbols

BOTH = "FRAME f\n bl __SCT__x\n nop\n bl __SCT__y\n nop\nLEAVE f\n" + LOCAL
FIRST, SECOND = 0x14, 0x1C
"""The two calls of `f`."""


def patched(path: Path, words: dict[int, int]) -> Path:
    """A copy with other words in .text."""
    data = bytearray(path.read_bytes())
    start = section(path, ".text").offset
    for at, word in words.items():
        data[start + at : start + at + 4] = word.to_bytes(4, "little")
    copy = path.with_name("patched.o")
    copy.write_bytes(data)
    return copy


def stub(path: Path, name: str) -> int:
    return next(
        symbol.value for symbol in symbols(path) if symbol.name.startswith(f"r2save.{name}.")
    )


def call(source: int, target: int) -> int:
    return BL | (target - source) & 0x3FFFFFC


def test_nothing_was_done(tmp_path: Path) -> None:
    """What was not seen before: `verify r.o r.o` was proven."""
    path = assemble(tmp_path, SOURCES["resolved"])
    (site,) = prove_both(path, path).sites
    assert (site.state, site.right) == ("left", False)


@pytest.mark.parametrize(
    "name",
    ["resolved", "resolved, twice", "resolved, saved", "resolved, no nop", "resolved, local entry"],
)
def test_every_resolved_call_runs(tmp_path: Path, name: str) -> None:
    path = assemble(tmp_path, SOURCES[name])
    after = rewritten(path, no_nop="thunk")
    (verdict,) = verify_files(path, after, tools=find_tools())
    assert verdict.result is Result.PROVEN
    assert verdict.runs
    assert all(not run.before.passed and run.after.passed for run in verdict.runs)


LOST = ".text+0x14 in f: this branch is no longer a call"
NOT_RESTORED = "but not restored at .text+0x18"


def mutations(after: Path) -> dict[str, tuple[dict[int, int], str]]:
    """Words to write into a rewritten object, and an error of each."""
    right, wrong = stub(after, "__SCT__x"), stub(after, "__SCT__y")
    return {
        "after the save": ({FIRST: call(FIRST, right + 4)}, "0x4 bytes past the stub's entry"),
        "another trampoline's stub": ({FIRST: call(FIRST, wrong)}, "leads to __SCT__y now"),
        "no restore": ({FIRST + 4: NOP}, NOT_RESTORED),
        "another restore": ({FIRST + 4: LD_R2 + 8}, NOT_RESTORED),
        "no stub": ({FIRST: call(FIRST, 0x40)}, "no save was found: r1 changes"),
        "nowhere": ({FIRST: call(FIRST, 0x10000)}, LOST),
        "itself": ({FIRST: BL}, LOST),
        "no call": ({FIRST: call(FIRST, right) & ~1}, "r2 is wrong after it: a sibling call"),
        "absolute": ({FIRST: call(FIRST, right) | 2}, LOST),
        "another word": ({FIRST - 8: 0x7C0802A7}, ".text+0xc in f: bytes were changed"),
    }


def test_wrong_changes_are_errors(tmp_path: Path) -> None:
    path = assemble(tmp_path, BOTH)
    after = rewritten(path)
    assert prove_both(path, after).errors == ()
    for name, (words, error) in mutations(after).items():
        errors = prove_both(path, patched(after, words)).errors
        assert any(error in text for text in errors), (name, errors)


def test_a_restore_without_a_save_is_not_shown(tmp_path: Path) -> None:
    """The third word: nothing is known to be wrong, and nothing is proven."""
    path = assemble(tmp_path, "FRAME f\n bl __SCT__x\n ld 2,24(1)\nLEAVE f\n")
    for options in (["--no-run"], []):
        done = scpatch("verify", *options, "--format", "plain", path, path)
        assert done.returncode == 1
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        assert [line[0] for line in lines] == ["site", "checked", "verdict"]
        assert (lines[0][5], lines[0][6], lines[2][2]) == ("restored", "not shown", "not shown")
    (verdict,) = verify_files(path, path)
    assert verdict.result is Result.NOT_SHOWN
    assert not verdict.proven


NAME = "r2save.__SCT__x.0123456789ab"
STUB = f"FUNC {NAME}\n1: std 2,24(1)\n b __SCT__x\n END {NAME}\n"


@pytest.mark.parametrize(
    ("where", "kind", "good"),
    [
        *((at, "REL24", False) for at in (0, 4, 5)),
        *((at, "ADDR16_LO", False) for at in (0, 2, 4, 6)),
        *((at, "TOCSAVE", True) for at in (0, 4)),
        *((at, "NONE", True) for at in (0, 4)),
        (8, "REL24", True),
    ],
)
def test_another_relocation_on_a_stub(tmp_path: Path, where: int, kind: str, good: bool) -> None:
    source = f"FUNC f\n nop\n{STUB} nop\n END f\n .reloc 1b+{where}, R_PPC64_{kind}, __SCT__x\n"
    (found,) = find_calls(read(assemble(tmp_path, source)), ["__SCT__*"]).stubs.values()
    assert found.fault == ("" if good else "a relocation changes its instructions")
