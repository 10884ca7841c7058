"""The branches that code itself says where they lead, against what objdump says."""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scpatch.elf.encoding import BIG, LITTLE, Encoding
from scpatch.ppc64.branches import Branches, branches
from tests.tools import CROSS, run

# Forward and backward, near and far, with and without AA and LK, and what is no branch at all.
B_FORM = st.builds(
    lambda bo_bi, words, bits: 16 << 26 | bo_bi << 16 | words << 2 & 0xFFFC | bits,
    st.sampled_from([0x0000, 0x0182, 0x0082, 0x0200, 0x0280]),
    st.integers(-40, 40) | st.sampled_from([-8192, 8191]),
    st.sampled_from([0, 0, 1, 2]),
)
I_FORM = st.builds(
    lambda words, bits: 18 << 26 | words << 2 & 0x3FFFFFC | bits,
    st.integers(-40, 40) | st.sampled_from([-(1 << 23), (1 << 23) - 1, 8192, 8193, 9000, -8193]),
    st.sampled_from([0, 1, 1, 2, 3]),
)
OTHERS = st.sampled_from([0, 0x60000000, 0x4E800020, 0x4E800421, 0x44000002, 0xF8410018])
WORDS = st.lists(B_FORM | I_FORM | OTHERS, min_size=1, max_size=30)


BRANCH = re.compile(r"^ *([0-9a-f]+):\t.*\t([b][a-z+-]*) +(?:.*,)?0x([0-9a-f]+)$", re.MULTILINE)


def by_objdump(words: list[int]) -> list[tuple[int, int]]:
    """(target, branch) of the relative branches that do not lead to themselves."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "code")
        file.write_bytes(b"".join(word.to_bytes(4, "big") for word in words))
        listing = run(
            *(CROSS + "objdump", "-D", "-z", "-EB", "-b", "binary", "-m", "powerpc:common64"), file
        ).stdout
    found = []
    for at, name, to in BRANCH.findall(listing):
        branch, target = int(at, 16), int(to, 16)
        target -= 1 << 64 if target >> 63 else 0
        if target != branch and not name.rstrip("+-").endswith("a"):
            found.append((target, branch))
    return found


@pytest.mark.parametrize("encoding", [LITTLE, BIG], ids=["le", "be"])
@settings(max_examples=60, deadline=None)
@given(WORDS, st.lists(st.tuples(st.integers(0, 32), st.integers(0, 32)), max_size=3))
def test_branches_into_ranges(
    encoding: Encoding, words: list[int], ranges: list[tuple[int, int]]
) -> None:
    code = memoryview(encoding.pack_words(*words))
    limits = [(4 * start, 4 * (start + size)) for start, size in ranges]
    wanted = [
        pair
        for pair in by_objdump(words)
        if any(start <= pair[0] < min(end, len(code)) for start, end in limits)
    ]
    assert Branches(code, encoding).into(limits) == sorted(wanted)


@example([18 << 26 | 9000 << 2], 40000)
@settings(max_examples=60, deadline=None)
@given(WORDS, st.sampled_from([0, 64, 32768, 40000, 1 << 25]))
def test_branches_past_the_end(words: list[int], past: int) -> None:
    code = memoryview(LITTLE.pack_words(*words))
    limits = (len(code), len(code) + past)
    wanted = [pair for pair in by_objdump(words) if limits[0] <= pair[0] < limits[1]]
    assert Branches(code, LITTLE).into([limits], past=past) == sorted(wanted)


@settings(max_examples=60, deadline=None)
@given(WORDS)
def test_every_b_and_bl(words: list[int]) -> None:
    wanted = [pair for pair in by_objdump(words) if words[pair[1] // 4] >> 26 == 18]
    assert branches(memoryview(LITTLE.pack_words(*words)), LITTLE) == wanted
