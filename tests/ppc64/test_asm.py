"""What scpatch assembles, held against keystone and GNU as."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.elf.encoding import BIG, LITTLE, Encoding
from scpatch.ppc64.asm import RECORDED, assemble, branch, encode
from tests.tools import CROSS, library

library("keystone")


@pytest.mark.parametrize("line", RECORDED)
def test_recorded_lines_are_what_keystone_makes(line: str) -> None:
    assert encode(line) == RECORDED[line]


@pytest.mark.parametrize("encoding", [LITTLE, BIG], ids=["little", "big"])
def test_recorded_lines_are_what_gnu_as_makes(tmp_path: Path, encoding: Encoding) -> None:
    source, target = tmp_path / "x.s", tmp_path / "x.o"
    source.write_text("".join(f"{_relative(line)}\n" for line in RECORDED))
    subprocess.run([CROSS + "as", f"-m{encoding.byte_order}", "-o", target, source], check=True)
    subprocess.run([CROSS + "objcopy", "-O", "binary", "-j", ".text", target], check=True)
    assert target.read_bytes() == encoding.pack_words(*assemble("\n".join(RECORDED)))


def _relative(line: str) -> str:
    """GNU as would make a relocation of a branch to an absolute address."""
    return {"b 0": "b .", "bl 0": "bl .", "bcl 20,31,4": "bcl 20,31,.+4"}.get(line, line)


@pytest.mark.parametrize("displacement", [-0x8000, -24, 24, 0x7FFC])
@pytest.mark.parametrize("line", ["ld 2,{}(1)", "std 11,{}(12)", "ld 30,{}(31)"])
def test_displacements_are_what_keystone_makes(line: str, displacement: int) -> None:
    text = line.format(displacement)
    assert assemble(text) == [encode(text)]


@pytest.mark.parametrize("displacement", [-0x8004, 0x8000, 6])
def test_displacements_that_do_not_fit(displacement: int) -> None:
    with pytest.raises(ValueError, match=f"no room for the displacement {displacement}"):
        assemble(f"ld 2,{displacement}(1)")


def test_other_lines_are_assembled_by_keystone() -> None:
    assert assemble("mflr 0\n  mr 31,1\n") == [0x7C0802A6, 0x7C3F0B78]


@pytest.mark.parametrize("line", ["ld r2,24(r1)", "nonsense 1,2", "ld 2,24(1"])
def test_what_cannot_be_assembled(line: str) -> None:
    with pytest.raises(ValueError, match="keystone cannot assemble"):
        assemble(line)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(1 << 23), (1 << 23) - 1), st.integers(0, 1 << 24))
def test_branches_are_what_keystone_makes(words: int, start: int) -> None:
    distance = 4 * words
    assert branch(4 * start, 4 * start + distance) == encode(f"b .{distance:+d}")


@pytest.mark.parametrize("distance", [1 << 25, -(1 << 25) - 4, 2, 1 << 30])
def test_branches_out_of_reach(distance: int) -> None:
    with pytest.raises(ValueError, match="does not reach"):
        branch(0, distance)
