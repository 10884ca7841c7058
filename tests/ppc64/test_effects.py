"""What instructions may change, held against capstone's reading of every opcode."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from scpatch.ppc64 import insn
from scpatch.ppc64.effects import ANY, NONE, effects
from scpatch.verifier.objects.insn import Effect, effect
from tests.tools import library

capstone = library("capstone")
READS = re.compile(r"st|cmp(?!b)|mt|t[wd]|dcb|icb|tlb|slb(?!mf|fee)|sync|nop|cp_|paste|wait")


def words() -> Iterator[int]:
    """Every primary and extended opcode, with r1 and r2 in each register field in turn."""
    registers = [(1, 9, 10), (2, 9, 10), (9, 1, 10), (9, 2, 10), (1, 1, 10), (2, 2, 2), (9, 10, 1)]
    for rt, ra, rb in registers:
        fields = rt << 21 | ra << 16 | rb << 11
        for opcode in range(2, 64):
            extended = range(2048) if opcode in (4, 19, 31, 58, 59, 60, 61, 62, 63) else (8, 9)
            for low in extended:
                yield opcode << 26 | fields | low


UNCHANGED = [("ori", ["r2", "r2", "0"]), ("mr", ["r1", "r1"]), ("mr", ["r2", "r2"])]
UNCHANGED += [("or.", ["r2", "r2", "r2"])]

ENGINE = capstone.Cs(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_LITTLE_ENDIAN)


def disassemble(word: int) -> tuple[str, list[str]] | None:
    for _, _, mnemonic, operands in ENGINE.disasm_lite(word.to_bytes(4, "little"), 0):
        return mnemonic, operands.split(", ")
    return None


def written(mnemonic: str, operands: list[str]) -> set[str]:
    """The registers that an instruction writes, from its text: the first operand, and the base
    of one with update."""
    written = set()
    if not READS.match(mnemonic):
        written.add(operands[0])
    if re.fullmatch(r"(?:l|st)\w+ux?", mnemonic):
        base = re.search(r"\((r\d+)\)", operands[-1])
        written.add(base[1] if base else operands[1])
    return written & {"r1", "r2"}


def test_a_system_call_of_user_space_may_do_anything() -> None:
    assert effects(0x44000002) == NONE  # sc
    assert effects(0x44000001) == ANY  # scv 0


def test_no_written_register_is_missed() -> None:
    checked = 0
    missed = []
    for word in words():
        text = None if insn.transfers(word) else disassemble(word)
        if text is None:
            continue
        checked += 1
        changed = effects(word)
        said = {name for name in ("r1", "r2") if getattr(changed, name)}
        if written(*text) - said and text not in UNCHANGED:
            missed.append(f"{word:#010x} {text[0]} {', '.join(text[1])}")
    assert checked > 10_000
    assert not missed, "\n".join(missed)


@pytest.mark.parametrize(
    ("word", "r1", "r2", "save"),
    [
        (0xF821FFE1, True, False, False),  # stdu r1,-32(r1)
        (0x38210020, True, False, False),  # addi r1,r1,32
        (0xE8210000, True, False, False),  # ld r1,0(r1)
        (0xF9210018, False, False, True),  # std r9,24(r1)
        (0xF9210010, False, False, False),  # std r9,16(r1)
        (0xF9210020, False, False, False),  # std r9,32(r1)
        (0x9121001C, False, False, True),  # stw r9,28(r1)
        (0x91810008, False, False, False),  # stw r12,8(r1)
        (0xF401000D, False, False, False),  # stxv vs0,0(r1)
        (0xF401001D, False, False, True),  # stxv vs0,16(r1)
        (0x7D21512A, False, False, True),  # stdx r9,r1,r10
        (0x7D2A092A, False, False, True),  # stdx r9,r10,r1
        (0x60420000, False, False, False),  # ori r2,r2,0
        (0x60420001, False, True, False),  # ori r2,r2,1
        (0x7C421378, False, False, False),  # mr r2,r2
        (0x7C491378, False, False, False),  # mr r9,r2
        (0x7D224B78, False, True, False),  # mr r2,r9
        (0x3C4C0000, False, True, False),  # addis r2,r12,0
        (0xE84D0010, False, True, False),  # ld r2,16(r13)
        (0x4C400004, False, True, False),  # addpcis r2,0
        (0x06000000, True, True, True),  # a prefix
        (0xB8010000, True, True, True),  # lmw r0,0(r1)
        (0x7FA351C4, True, True, True),  # opcode 31 with an extended opcode that is none
        (0xF8830002, True, True, True),  # stq r4,0(r3)
        (0x7D2348EE, False, False, False),  # lbzux r9,r3,r9
        (0x7D2148EE, True, False, False),  # lbzux r9,r1,r9
        (0x7D2109EE, True, False, True),  # stbux r9,r1,r1
        (0x7C2003E4, False, False, False),  # slbia 1
        (0x7D3F0BF8, False, False, False),  # cmpb r31,r9,r1
    ],
)
def test_effects(word: int, r1: bool, r2: bool, save: bool) -> None:
    assert effects(word) == (r1, r2, save)


def test_what_is_known_here_is_known_to_the_verifier() -> None:
    """Reserved bits that are set, and extended opcodes that few know, may do anything: the proof
    could not follow. Of AltiVec and VSX capstone does not know all."""
    rng = random.Random(2022)
    unlike = []
    chosen = [*words(), *(rng.getrandbits(32) for _ in range(20_000))]
    for word in rng.sample(chosen, 30_000):
        if word >> 26 in (4, 60) or insn.transfers(word) or effects(word) == ANY:
            continue
        if effect(word) is Effect.UNKNOWN:
            unlike.append(f"{word:#010x}")
    assert not unlike, " ".join(unlike)
