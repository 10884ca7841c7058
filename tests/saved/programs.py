"""Random functions for the oracle in `interpreter`."""

from __future__ import annotations

import random

from tests.saved.interpreter import Op, Program

_PLAIN = {
    "site": 0x48000001,
    "call": 0x48000001,
    "notoc_call": 0x48000001,
    "save": 0xF8410018,
    "restore": 0xE8410018,
    "load_r2": 0xE8490008,  # ld r2,8(r9)
    "indirect_call": 0x4E800421,  # bctrl
    "push_unknown": 0x7C21496A,  # stdux r1,r1,r9
    "return": 0x4E800020,  # blr
    "conditional_return": 0x4D820020,  # beqlr
    "jump": 0x4E800420,  # bctr
    "nop": 0x60000000,
    "padding": 0x60420000,  # ori r2,r2,0
    "other": 0x38630001,  # addi r3,r3,1
    "read": 0x7C491378,  # mr r9,r2
}
_COMMON = ["site"] * 6 + ["save"] * 5 + ["conditional"] * 4 + ["other", "read", "nop", "padding"]
_RARE = ["call", "restore", "return", "conditional_return", "branch", "branch"]
_HARMFUL = ["notoc_call", "load_r2", "indirect_call", "push", "pop", "push_unknown", "store"]
_HARMFUL += ["store_byte", "subroutine", "subroutine"]

_BRANCHES = {"branch": (0x48000000, 0x3FFFFFC), "subroutine": (0x48000001, 0x3FFFFFC)}
_BRANCHES["conditional"] = (0x41820000, 0xFFFC)


def random_program(source: random.Random) -> Program:
    """A function of up to 24 instructions; half of them open with the save."""
    count = source.randrange(3, 25)
    # A little of what destroys is more telling than much: else nothing is ever saved.
    harm = source.choice((0, 1, 1, 2, 4))
    names = _COMMON * 2 + _RARE * 2 + source.sample(_HARMFUL, harm) * 2
    if source.random() < 0.2:
        names += ["jump"]
    ops = [_operation(source.choice(names), at, count, source) for at in range(count)]
    if source.random() < 0.5:
        ops[0] = Op("save", _PLAIN["save"])
    entries = frozenset(source.sample(range(1, count), source.choice((0, 0, 0, 0, 1))))
    edges = {source.randrange(count): source.randrange(1, count)} if source.random() < 0.2 else {}
    unsure = frozenset(source.sample(range(count), source.choice((0, 0, 0, 1, 2))))
    return Program(tuple(ops), entries, edges, unsure)


def _operation(name: str, at: int, count: int, source: random.Random) -> Op:
    if name in _BRANCHES:
        target = source.randrange(1, count)
        word, mask = _BRANCHES[name]
        if target == at:
            return Op("other", _PLAIN["other"])
        return Op(name, word | 4 * (target - at) & mask, target)
    if name == "push":  # stdu r1,-N(r1)
        size = source.choice((32, 64))
        return Op(name, 0xF8210001 | -size & 0xFFFC, displacement=-size)
    if name == "pop":  # addi r1,r1,N
        size = source.choice((32, 64))
        return Op(name, 0x38210000 | size, displacement=size)
    if name == "store":  # std r3,N(r1)
        offset = source.choice((-8, 16, 20, 24, 28, 32, 88))
        return Op(name, 0xF8610000 | offset & 0xFFFC, displacement=offset)
    if name == "store_byte":  # stb r3,N(r1)
        offset = source.choice((23, 24, 31, 32))
        return Op(name, 0x98610000 | offset, displacement=offset)
    return Op(name, _PLAIN[name])
