"""Functions that save r2 themselves, or only seem to: calls restored without a stub.

Each is assembled twice: with a nop behind the call, and with the restore that a rewriter would put
there that takes the save for one. The proof may call that right only where the program behaves
like the one with a right save.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from scpatch.elf.encoding import ByteOrder
from scpatch.verifier.proof import prove
from tests.fuzz.program import Call, Setting, behaviour
from tests.tools import assemble

NOP = 0x60000000
_CALL = "bl __SCT__x\nRESTORE\n"
_SAVE = ".Lsave: std 2, 24(1)\n"
_FIXUP = """
        .section __ftr_alt_97, "ax"
1:
        .section {name}, "a"
        .balign 8
3:      .8byte 0, 0
        .8byte {start} - 3b, {end} - 3b, 1b - 3b, 1b - 3b
        .text
"""
_LWSYNC = """
        .section __lwsync_fixup, "a"
        .balign 8
3:      .8byte .Lsave - 3b
        .text
"""
"""As MAKE_FTR_SECTION_ENTRY and MAKE_LWSYNC_SECTION_ENTRY write them (Linux,
arch/powerpc/include/asm/feature-fixups.h); nothing stands in for the code of a feature."""
_JUMP = """
        .section __jump_table, "aw"
        .balign 8
        .long .Lsave - ., .Lother - .
        .8byte 0
        .text
"""
_FEATURES = ("__ftr_fixup", "__mmu_ftr_fixup", "__fw_ftr_fixup")


class Case(NamedTuple):
    kind: str
    what: str
    body: str
    """Between the making and the leaving of a frame."""
    extra: str = ""
    """Sections that name places in the body."""
    gone: bool = False
    """Whether the save is a nop at run time."""


def cases() -> Iterator[Case]:
    """All of them, the right one first."""
    yield Case("right", "saved", _SAVE + _CALL)
    yield Case(
        "right",
        "saved on both paths",
        f"cmpdi 3, 5\nbeq 1f\n{_SAVE}b 2f\n1: std 2, 24(1)\n2: {_CALL}",
    )
    yield Case("missing save", "none", _CALL)
    yield Case("missing save", "behind the call", _CALL + _SAVE)
    for register in (0, 3, 12, 31):
        yield Case("register", f"r{register}", f"std {register}, 24(1)\n{_CALL}")
    for slot in (16, 32, 40, -8):
        yield Case("slot", f"{slot}(r1)", f"std 2, {slot}(1)\n{_CALL}")
    yield Case("slot", "24(r31)", f"addi 31, 1, 8\nstd 2, 24(31)\n{_CALL}")
    yield Case("slot", "half of it", f"stw 2, 24(1)\n{_CALL}")
    yield Case(
        "another frame", "made behind it", f"std 2, 24(1)\nstdu 1, -64(1)\n{_CALL}addi 1, 1, 64\n"
    )
    yield Case(
        "another frame", "left behind it", f"stdu 1, -64(1)\nstd 2, 24(1)\naddi 1, 1, 64\n{_CALL}"
    )
    yield Case("another frame", "of the caller", f"std 2, 120(1)\n{_CALL}")
    for branch in ("beq", "bne", "blt", "bgt", "bdnz"):
        ctr = "li 9, 7\nmtctr 9\ncmpdi 3, 5\n"
        yield Case("one path only", branch, f"{ctr}{branch} 1f\n{_SAVE}1: {_CALL}")
    yield Case("overwritten", "by another register", f"{_SAVE}std 3, 24(1)\n{_CALL}")
    yield Case("overwritten", "in part", f"{_SAVE}stw 3, 28(1)\n{_CALL}")
    yield Case("overwritten", "through r31", f"{_SAVE}mr 31, 1\nstd 3, 24(31)\n{_CALL}")
    yield Case("overwritten", "r2 was foreign", f"mr 30, 2\nli 2, 77\n{_SAVE}mr 2, 30\n{_CALL}")
    for name in _FEATURES:
        extra = _FIXUP.format(name=name, start=".Lsave", end=".Lsave + 4")
        yield Case("feature section", name, _SAVE + _CALL, extra, gone=True)
    yield Case("feature section", "__lwsync_fixup", _SAVE + _CALL, _LWSYNC, gone=True)
    beside = _FIXUP.format(name="__ftr_fixup", start=".Lbeside", end=".Lbeside + 4")
    yield Case("feature section", "beside it", f".Lbeside: nop\n{_SAVE}{_CALL}", beside)
    yield Case("jump label", "__jump_table", f"{_SAVE}.Lother: {_CALL}", _JUMP, gone=True)
    yield Case(
        "relocated save",
        "R_PPC64_PLTSEQ",
        f".reloc ., R_PPC64_PLTSEQ, plain\n{_SAVE}{_CALL}",
        gone=True,
    )


class Outcome(NamedTuple):
    case: Case
    proven: bool
    right: bool
    """The program behaves like the right one."""


_SETTING = Setting((Call("f", (4,)), Call("f", (5,)), Call("f", (6,))), {"__SCT__x": 8})


def _source(case: Case, restore: str) -> str:
    distance = ".globl save_at\n.set save_at, .Lsave - f" if case.gone else ""
    return f"""
        TOC __SCT__x
        blr
        END __SCT__x
        TOC f
        mflr 0
        std 0, 16(1)
        stdu 1, -96(1)
        std 31, 88(1)
        std 30, 80(1)
        {case.body.replace("RESTORE", restore)}
        ld 31, 88(1)
        ld 30, 80(1)
        addi 1, 1, 96
        ld 0, 16(1)
        mtlr 0
        blr
        END f
        {distance}
        {case.extra}
"""


def outcomes(order: ByteOrder) -> Iterator[Outcome]:
    """What the proof says of each case, and what the program does."""
    expected = None
    with tempfile.TemporaryDirectory(prefix="scpatch-saves-") as name:
        folder = Path(name)
        for case in cases():
            before = assemble(folder, _source(case, "nop"), "before.o", f"-m{order}")
            after = assemble(folder, _source(case, "ld 2, 24(1)"), "after.o", f"-m{order}")
            proof = prove(before, after)
            setting = _SETTING._replace(words={"f": ("save_at", NOP)} if case.gone else {})
            printed = behaviour(folder, after, setting)
            expected = expected or printed
            proven = not proof.errors and all(site.right for site in proof.sites)
            yield Outcome(case, proven, printed is not None and printed == expected)


def main() -> int:
    """Prints the rows for docs/explanation/reliability.md."""
    rows: dict[str, list[Outcome]] = {}
    for outcome in chain(outcomes("little"), outcomes("big")):
        rows.setdefault(outcome.case.kind, []).append(outcome)
    print("| Save | cases | run wrong | of those proven | run right | of those proven |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind, printed in rows.items():
        wrong, right = (
            [outcome for outcome in printed if outcome.right is way] for way in (False, True)
        )
        figures = [len(printed), len(wrong), sum(o.proven for o in wrong)]
        figures += [len(right), sum(o.proven for o in right)]
        print(f"| {kind} | " + " | ".join(map(str, figures)) + " |")
    missed = [
        outcome
        for all_ in rows.values()
        for outcome in all_
        if outcome.proven and not outcome.right
    ]
    for outcome in missed:
        print(f"proven, and wrong: {outcome.case.kind}: {outcome.case.what}")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
