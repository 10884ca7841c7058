"""Plausible ELFv2 code for the generated objects: blocks of functions as gcc -O2 lays them out.

A block is made once and then used for many compilation units. What differs between those, the
symbols and addends of the relocations, is left to the `Fixup`s: their `symbol` may be

    function:J      the J-th function of the same unit
    trampoline:S    the trampoline of the unit's S-th site
    section+:S      the same trampoline, as section symbol + addend

and any other text is the name of a symbol, or of a section for its section symbol.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.elfwriter import (
    NOP,
    R_PPC64_REL16_HA,
    R_PPC64_REL16_LO,
    R_PPC64_REL24,
    R_PPC64_TOC16_HA,
    words,
)

R_PPC64_TOC16_LO_DS = 64

# The instructions in use. tests/bench/test_generate.py holds the words against GNU as.
INSNS = {
    "add r3,r3,r9": 0x7C634A14,
    "add r3,r31,r3": 0x7C7F1A14,
    "addi r1,r1,48": 0x38210030,
    "addi r2,r2,0": 0x38420000,
    "addi r3,r3,1": 0x38630001,
    "addis r12,r2,0": 0x3D820000,
    "addis r2,r12,0": 0x3C4C0000,
    "addis r9,r2,0": 0x3D220000,
    "b .": 0x48000000,
    "bctr": 0x4E800420,
    "bctrl": 0x4E800421,
    "beq .+12": 0x4182000C,
    "bl .": 0x48000001,
    "blr": 0x4E800020,
    "clrldi r3,r3,32": 0x78630020,
    "cmpdi r3,0": 0x2C230000,
    "extsw r3,r3": 0x7C6307B4,
    "ld r0,16(r1)": 0xE8010010,
    "ld r12,0(r12)": 0xE98C0000,
    "ld r2,24(r1)": 0xE8410018,
    "ld r31,-8(r1)": 0xEBE1FFF8,
    "lwz r9,0(r9)": 0x81290000,
    "mflr r0": 0x7C0802A6,
    "mr r3,r31": 0x7FE3FB78,
    "mr r31,r3": 0x7C7F1B78,
    "mtctr r12": 0x7D8903A6,
    "mtlr r0": 0x7C0803A6,
    "nop": NOP,
    "std r0,16(r1)": 0xF8010010,
    "std r2,24(r1)": 0xF8410018,
    "std r31,-8(r1)": 0xFBE1FFF8,
    "stdu r1,-48(r1)": 0xF821FFD1,
    "xor r3,r3,r31": 0x7C63FA78,
}
FILLERS = ("addi r3,r3,1", "xor r3,r3,r31", "clrldi r3,r3,32", "extsw r3,r3", "add r3,r31,r3")
LOCAL_ENTRY = 0x60  # st_other of a function whose local entry lies 8 bytes behind its global one
STATIC_CALL_EVERY = 25  # of so many functions one makes a static call: as in a vmlinux.o

# An instruction, perhaps with a relocation: its type, its symbol and its addend.
Line = tuple[str] | tuple[str, int, str, int]

LOAD_TOC: tuple[Line, ...] = (
    ("addis r2,r12,0", R_PPC64_REL16_HA, ".TOC.", 0),
    ("addi r2,r2,0", R_PPC64_REL16_LO, ".TOC.", 4),
)
PROLOGUE: tuple[Line, ...] = (
    *(("mflr r0",), ("std r31,-8(r1)",), ("std r0,16(r1)",)),
    *(("stdu r1,-48(r1)",), ("mr r31,r3",)),
)
EPILOGUE: tuple[Line, ...] = (
    *(("addi r1,r1,48",), ("ld r0,16(r1)",), ("ld r31,-8(r1)",)),
    *(("mtlr r0",), ("blr",)),
)
# A trampoline as scpatch meets it: a function that loads its TOC, one word to patch, a far path.
TRAMPOLINE: tuple[Line, ...] = (
    *LOAD_TOC,
    ("b .", R_PPC64_REL24, "function:0", 0),
    ("addis r12,r2,0", R_PPC64_TOC16_HA, ".data", 0),
    ("ld r12,0(r12)", R_PPC64_TOC16_LO_DS, ".data", 0),
    *(("mtctr r12",), ("bctr",), ("nop",)),
)


@dataclass(frozen=True, slots=True)
class Fixup:
    """A relocation of every unit: `moves` is what its addend grows by from one unit to the next."""

    offset: int
    type: int
    symbol: str
    addend: int = 0
    moves: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Code of one unit: bytes, relocations, (offset, size) of each function, number of sites."""

    data: bytes
    fixups: tuple[Fixup, ...]
    functions: tuple[tuple[int, int], ...]
    sites: int


def assemble(lines: list[Line] | tuple[Line, ...], start: int = 0) -> tuple[bytes, list[Fixup]]:
    """The words of the instructions, and their relocations `start` bytes further on."""
    fixups = [
        Fixup(start + 4 * index, *line[1:]) for index, line in enumerate(lines) if len(line) == 4
    ]
    return words(*(INSNS[line[0]] for line in lines)), fixups


def make_block(functions: int, *, seed: int, first_site: int = 3) -> Block:
    """A block of so many functions; every 25th from number `first_site` on makes a static call."""
    rng = random.Random(seed)
    data, fixups, extents, sites = bytearray(), [], [], 0
    for number in range(functions):
        calls_static = number % STATIC_CALL_EVERY == first_site
        target = f"{'section+' if sites % 5 == 4 else 'trampoline'}:{sites}"
        lines = [*_function(rng, functions, target if calls_static else None)]
        code, own = assemble(lines, len(data))
        extents.append((len(data), len(code)))
        fixups += own
        data += code
        data += words(NOP) * (-len(data) % 16 // 4)
        sites += calls_static
    return Block(bytes(data), tuple(fixups), tuple(extents), sites)


def _function(rng: random.Random, functions: int, static_call: str | None) -> Iterator[Line]:
    indirect = rng.random() < 0.15
    yield from LOAD_TOC
    yield from PROLOGUE
    if indirect:
        # gcc saves r2 once, early, for all indirect calls of the function.
        yield ("std r2,24(r1)",)
    calls = [f"function:{rng.randrange(functions)}" for _ in range(rng.randrange(1, 5))]
    if static_call:
        calls.insert(rng.randrange(len(calls) + 1), static_call)
    for call in calls:
        yield from _filler(rng)
        yield ("bl .", R_PPC64_REL24, call, 0)
        yield ("nop",)
    if indirect:
        yield ("addis r12,r2,0", R_PPC64_TOC16_HA, ".data", 8)
        yield ("ld r12,0(r12)", R_PPC64_TOC16_LO_DS, ".data", 8)
        yield from (("mtctr r12",), ("bctrl",), ("ld r2,24(r1)",))
    yield from _filler(rng)
    yield from EPILOGUE


def _filler(rng: random.Random) -> Iterator[Line]:
    for name in rng.choices(FILLERS, k=rng.randrange(1, 8)):
        yield (name,)
    if rng.random() < 0.5:
        yield from (("cmpdi r3,0",), ("beq .+12",), ("mr r3,r31",), ("addi r3,r3,1",))
    if rng.random() < 0.4:
        yield ("addis r9,r2,0", R_PPC64_TOC16_HA, ".data", 16)
        yield ("lwz r9,0(r9)", R_PPC64_TOC16_LO_DS, ".data", 16)
        yield ("add r3,r3,r9",)
