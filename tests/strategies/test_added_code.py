"""Code that strategies add at the end of a section: nothing of the old code may lead there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.strategies.callsite import plan
from scpatch.verifier.proof import prove
from tests import elfwriter as ew
from tests.tools import CROSS, rewrite, run

Assemble = Callable[..., Path]

TRAMPOLINE = ' .section .text.x, "ax"\nFUNC __SCT__x\n blr\nEND __SCT__x\n'
CALLER = "FRAME f\n CALL __SCT__x\nLEAVE f\n"


BY_A_RELOCATION = '.section .other, "ax"\nFUNC o\n b .text+0x30\nEND o\n'
PAST = {
    "condition": "beq .+8",
    "branch": "b .+8",
    "further": "bdnz .+12",
    "relocated": BY_A_RELOCATION,
    "data": ".data\n .quad .text+0x30",
    "symbol": ".globl past\n.set past, f+0x30",
}


@pytest.mark.parametrize("past", PAST)
def test_what_leads_past_the_end(assemble: Assemble, past: str) -> None:
    """It would run into the stub."""
    path = assemble(f"{CALLER} {PAST[past]}\n{TRAMPOLINE}")
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
    "1: nop\n .data\n .quad 1b": True,
    '1: nop\n .section .other, "ax"\n b 1b': True,
    ".type last, @gnu_indirect_function\nlast: nop": True,
    '1:\n .section .other, "ax"\n beq 1b': True,
    ".globl last\nlast:": True,
    " b .+4": True,
    '1: nop\n .section .eh_frame, "a"\n .quad 1b': False,
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


WAYS = ["b .Lto", "beq .Lto", ".quad .Lto", ".globl last\n .set last, .Lto"]


@pytest.mark.parametrize("end", [".Lto: nop", ".Lto:", ".Lto: nop\n nop", " .set .Lto, .+4"])
@pytest.mark.parametrize("way", WAYS)
def test_the_proof_sees_each_way_into_added_code(
    assemble: Assemble, monkeypatch: pytest.MonkeyPatch, end: str, way: str
) -> None:
    monkeypatch.setattr(plan, "leads", lambda elf, sizes: dict.fromkeys(sizes, b""))
    path = assemble(f'{CALLER}{end}\n .section .other, "ax"\n {way}\n{TRAMPOLINE}')
    new = path.with_name("new.o")
    rewrite(path, new)
    assert re.search("may run on into the stub|where control may come", prove(path, new).errors[-1])
