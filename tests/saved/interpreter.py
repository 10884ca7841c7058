"""A tiny PowerPC that runs one function on random paths: the oracle for `analysis`.

It knows the dozen instructions that `programs` writes and shares nothing with the package. Values
are tokens; memory is a dictionary of doublewords. A path is any sequence of choices at
conditional branches, at computed jumps, and at instructions that may leave by a table.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VALID, CLOBBERED, JUNK = "valid", "clobbered", "junk"
_FRAME_HEADER = 32


@dataclass(frozen=True)
class Op:
    """One instruction of a program. `target` is an index of another one."""

    name: str
    word: int
    target: int = -1
    displacement: int = 0


@dataclass(frozen=True)
class Program:
    """A function. The first instruction is the local entry point."""

    ops: Sequence[Op]
    entries: frozenset[int] = frozenset()
    """Where control also comes in from outside."""
    edges: Mapping[int, int] | None = None
    """Instructions that may leave for another one before they have done anything."""
    unsure: frozenset[int] = frozenset()
    """Instructions that are nops on some paths."""


def wrong_sites(program: Program, source: random.Random, *, paths: int, steps: int) -> set[int]:
    """The sites that some path reaches with r2 clobbered, or not in 24(r1); and the saves put in by
    `hoist` that a path reaches with r2 clobbered, or in the caller's frame."""
    wrong: set[int] = set()
    starts = [0, *sorted(program.entries)]
    for _ in range(paths):
        wrong |= _walk(program, source.choice(starts), source, steps)
    return wrong


class _State:
    def __init__(self, *, known: bool) -> None:
        self.r1 = 0
        self.r2 = VALID if known else CLOBBERED
        self.memory: dict[int, str] = {}

    def load(self, offset: int) -> str:
        return self.memory.get(self.r1 + offset, JUNK)

    def store(self, offset: int, size: int, value: str) -> None:
        """A store of one doubleword keeps its value; any other leaves junk where it touches."""
        for place in range((self.r1 + offset) // 8 * 8, self.r1 + offset + size, 8):
            self.memory[place] = JUNK
        if size == 8 and (self.r1 + offset) % 8 == 0:
            self.memory[self.r1 + offset] = value

    def do(self, op: Op, source: random.Random) -> None:
        """What an instruction does to r1, r2 and memory."""
        match op.name:
            case "save" | "hoisted":
                self.store(24, 8, self.r2)
            case "restore":
                self.r2 = self.load(24)
            case "store":
                self.store(op.displacement, 8, JUNK)
            case "store_byte":
                self.store(op.displacement, 1, JUNK)
            case "push" | "pop":
                self.r1 += op.displacement
            case "push_unknown":
                self.r1 -= source.randrange(64, 1024, 16)
            case "load_r2":
                self.r2 = CLOBBERED
            case "indirect_call" | "notoc_call":
                self.r2 = self.r2 if source.random() < 0.5 else CLOBBERED
            case "call" | "site" if source.random() < 0.5:
                # A linker's stub may have stored r2; a site gets its r2 back whatever happens.
                self.store(24, 8, self.r2)


def _walk(program: Program, start: int, source: random.Random, steps: int) -> set[int]:
    state = _State(known=start == 0)
    wrong: set[int] = set()
    edges = program.edges or {}
    nops = {at for at in sorted(program.unsure) if source.random() < 0.5}
    at = start
    for _ in range(steps):
        if not 0 <= at < len(program.ops):
            break
        op = program.ops[at]
        if at in edges and source.random() < 0.3:
            at = edges[at]
            continue
        if at in nops:
            at += 1
            continue
        if op.name == "site" and (state.r2 != VALID or state.load(24) != VALID):
            wrong.add(at)
        if op.name == "hoisted" and (state.r2 != VALID or state.r1 > -_FRAME_HEADER):
            wrong.add(at)
        state.do(op, source)
        if start == 0 and state.r1 > 0:
            break  # it has taken down its caller's frame, which no function does
        at = _next(program, op, at, source)
    return wrong


def _next(program: Program, op: Op, at: int, source: random.Random) -> int:
    """The index of the next instruction, -1 where the path ends."""
    match op.name:
        case "branch" | "subroutine":
            return op.target
        case "conditional":
            return source.choice((op.target, at + 1))
        case "conditional_return":
            return source.choice((-1, at + 1))
        case "return":
            return -1
        case "jump":
            return source.randrange(len(program.ops))
    return at + 1
