"""Which trampolines are taken for pc-relative code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.files.inputs import open_input, read_object
from scpatch.sites.choices import Choices
from scpatch.sites.pc_relative import needing_r2, pc_relative_places
from scpatch.strategies.scan import scan

Assemble = Callable[..., Path]

NEEDLESS, NEEDED = " bl __SCT__x@notoc\n", " bl __SCT__x\n nop\n"
BODIES = {
    "branch": (" b target@notoc", True),
    "marked": (" .localentry __SCT__x, 1\n b target@notoc", True),
    "slot": (" blr\n nop\n pld 12, slot@pcrel\n mtctr 12\n bctr", True),
    "got": (" pld 12, target@got@pcrel\n mtctr 12\n bctr", True),
    "toc": (" addis 12, 2, slot@toc@ha\n ld 12, slot@toc@l(12)\n mtctr 12\n bctr", False),
    "both": (" b target@notoc\n addis 12, 2, slot@toc@ha", False),
    "plain branch": (" b target", False),
    "two entries": (" nop\n .localentry __SCT__x, 4\n b target@notoc", False),
}


def answers(path: Path) -> tuple[bool, bool]:
    """(it is pc-relative, a caller needs r2)"""
    with open_input(path) as source:
        elf = read_object(source.data, str(path))
        scanned = scan(elf, Choices())
        return bool(pc_relative_places(elf, scanned)), bool(needing_r2(scanned))


@pytest.mark.parametrize("call", ["", NEEDLESS, NEEDED, NEEDLESS + NEEDED])
@pytest.mark.parametrize("body", BODIES)
def test_its_own_relocations_say_it(assemble: Assemble, body: str, call: str) -> None:
    code, expected = BODIES[body]
    path = assemble(f"FUNC __SCT__x\n{code}\nEND __SCT__x\nFRAME f\n{call}LEAVE f\n")
    assert answers(path) == (expected, NEEDED in call)


@pytest.mark.parametrize(
    ("call", "expected"),
    [("", False), (NEEDLESS, True), (NEEDED, False), (NEEDLESS + NEEDED, False)],
)
def test_without_relocations_its_callers_do(assemble: Assemble, call: str, expected: bool) -> None:
    path = assemble(f"FUNC __SCT__x\n blr\nEND __SCT__x\nFRAME f\n{call}LEAVE f\n")
    assert answers(path) == (expected, NEEDED in call)
