"""Code that strategies add at the end of a section: nothing of the old code may lead there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from tests import elfwriter as ew
from tests.tools import rewrite

Assemble = Callable[..., Path]

TRAMPOLINE = ' .section .text.x, "ax"\nFUNC __SCT__x\n blr\nEND __SCT__x\n'
CALLER = "FRAME f\n CALL __SCT__x\nLEAVE f\n"


@pytest.mark.parametrize("branch", ["beq .+8", "b .+8", "bdnz .+12", "b .+4"])
def test_a_branch_past_the_end(assemble: Assemble, branch: str) -> None:
    """It would run into the stub."""
    path = assemble(f"{CALLER} {branch}\n{TRAMPOLINE}")
    before = path.read_bytes()
    with pytest.raises(ScpatchError) as caught:
        rewrite(path)
    assert caught.value.code == "SCP243"
    assert path.read_bytes() == before


@pytest.mark.parametrize("branch", ["beq other", "b other", "blr"])
def test_a_branch_with_a_relocation(assemble: Assemble, branch: str) -> None:
    assert rewrite(assemble(f"{CALLER} {branch}\n{TRAMPOLINE}")).outputs


@pytest.mark.parametrize("past", [0, 4, 1 << 40])
def test_a_relocation_past_the_end(tmp_path: Path, past: int) -> None:
    """It would change the stub."""
    code = ew.words(ew.BL, ew.NOP, 0x4E800020)
    offsets = (0, ew.R_PPC64_REL24, "__SCT__x"), (len(code) + past, ew.R_PPC64_REL24, "other")
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        data=code,
        addralign=4,
        relocations=[ew.Relocation(offset=at, type=kind, symbol=to) for at, kind, to in offsets],
    )
    names = [ew.Symbol(name=name, bind=ew.STB_GLOBAL) for name in ("__SCT__x", "other")]
    path = tmp_path / "x.o"
    path.write_bytes(ew.build(ew.Elf(sections=[text], symbols=names)))
    with pytest.raises(ScpatchError, match=r"past the end of \.text") as caught:
        rewrite(path, undefined="rewrite")
    assert caught.value.code == "SCP107"
