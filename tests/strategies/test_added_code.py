"""Code that strategies add at the end of a section: nothing of the old code may lead there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.verifier.proof import prove
from tests import elfwriter as ew
from tests.tools import CROSS, rewrite, run

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


ENDINGS = {
    " nop": False,
    "last: nop": True,
    ".globl last\nlast: nop\n nop": True,
    " bne 1f\n blr\n1: nop": True,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_nop_at_the_end_that_is_entered(assemble: Assemble, ending: str) -> None:
    """It is no padding: control runs on into the next object's code, not into the stub."""
    path = assemble(f"{CALLER}{ending}\n{TRAMPOLINE}")
    new = path.with_name("new.o")
    rewrite(path, new)
    code = run(f"{CROSS}objdump", "-d", "--no-show-raw-insn", "-j", ".text", new).stdout
    lines = code.splitlines()
    (stub,) = [at for at, line in enumerate(lines) if "<r2save." in line and line.endswith(">:")]
    last = [line for line in lines[:stub] if line.startswith("  ")][-1]
    assert (last.split()[1] == "b") == ENDINGS[ending]
    assert prove(path, new).errors == ()
