"""What scpatch assembles, held against keystone and GNU as."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.ppc64.asm import ASSEMBLED, assemble, branch, encode
from tests.tools import CROSS


@pytest.mark.parametrize("line", ASSEMBLED)
def test_known_words_are_what_keystone_makes(line: str) -> None:
    assert encode(line) == ASSEMBLED[line]


def test_known_words_are_what_gnu_as_makes(tmp_path: Path) -> None:
    source, target = tmp_path / "x.s", tmp_path / "x.o"
    # A branch to an absolute 0 would get a relocation; the distance 0 is what is meant.
    source.write_text(
        "".join(f"{line.replace('b 0', 'b .').replace('bl 0', 'bl .')}\n" for line in ASSEMBLED)
    )
    subprocess.run([CROSS + "as", "-mlittle", "-o", target, source], check=True)
    subprocess.run([CROSS + "objcopy", "-O", "binary", "-j", ".text", target], check=True)
    assert target.read_bytes() == assemble("\n".join(ASSEMBLED))


def test_other_lines_are_assembled_by_keystone() -> None:
    assert assemble("mflr 0\n  nop\n") == bytes.fromhex("a602087c00000060")


@pytest.mark.parametrize("line", ["ld r2,24(r1)", "nonsense 1,2", "ld 2,24(1"])
def test_what_cannot_be_assembled(line: str) -> None:
    with pytest.raises(ValueError, match="keystone cannot assemble"):
        assemble(line)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(1 << 23), (1 << 23) - 1), st.integers(0, 1 << 24))
def test_branches_are_what_keystone_makes(words: int, start: int) -> None:
    distance = 4 * words
    assert branch(4 * start, 4 * start + distance) == encode(f"b .{distance:+d}").to_bytes(
        4, "little"
    )


@pytest.mark.parametrize("distance", [1 << 25, -(1 << 25) - 4, 2, 1 << 30])
def test_branches_out_of_reach(distance: int) -> None:
    with pytest.raises(ValueError, match="does not reach"):
        branch(0, distance)
