"""The code that keeps LR and r2 on the livepatch stack, followed instruction by instruction.

`follow` executes the words with names instead of numbers in the registers: the r2, LR and CTR at
entry, the PACA, the thread_info, the stack pointer that lies in it. Whoever gets to the `blr` with
LR and r2 as they were, with the target called by its global entry and its arguments and results
untouched, is right, in whichever order and with whichever registers.

An interrupt may come between any two instructions, and writes over all that lies above the stack
pointer in the thread_info. So what is stored there is no good until that pointer has been moved up
past it, and what is above after it has been moved down is gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from capstone import Cs

MAGIC: Final = 0x57AC6E9D
"""STACK_END_MAGIC (include/uapi/linux/magic.h)."""
_LONGEST: Final = 64
"""Words that are looked at, at most."""
_LIMITS: Final = {"paca": 0x8000, "thread": 1024}
"""What a load by a register and a displacement reaches, and a size that no thread_info has."""


class Value(NamedTuple):
    """What a register holds: something named, and a number of bytes behind it. Plain numbers have
    no name; what is not known is called `?`."""

    name: str
    plus: int


_LR, _CTR, _R2 = Value("lr", 0), Value("ctr", 0), Value("r2", 0)
"""At entry."""
_UNKNOWN: Final = Value("?", 0)
_MARKER: Final = Value("marker", 0)
"""What was found on the stack after the call, where the end of stack marker was left."""


class Code(NamedTuple):
    """What the code uses. Offsets are in bytes."""

    size: int
    thread_info: int
    """Of the pointer to the thread_info, from r13."""
    livepatch_sp: int
    """Of the stack pointer, from the thread_info."""
    entry: int
    """Bytes that it keeps on the stack."""


class _WrongError(Exception):
    """The code does what it may not do, or not what it has to."""


@dataclass(eq=False)
class _State:
    registers: dict[int, Value]
    lr: Value
    ctr: Value
    height: int = 0
    """Where the stack pointer in the thread_info is, from where it was."""
    stack: dict[int, Value] = field(default_factory=dict)
    """The doublewords that are kept, by their distance from the old stack pointer."""
    entry: int = 0
    called: bool = False
    checked: bool = False
    offsets: dict[str, int] = field(default_factory=dict)


def follow(words: Sequence[int]) -> Code | str:
    """What the code that starts with `words` does; a sentence where it is none or is wrong."""
    registers = {1: Value("r1", 0), 2: _R2, 13: Value("paca", 0)}
    state = _State(registers, lr=_LR, ctr=_CTR)
    try:
        for at, word in enumerate(words[:_LONGEST]):
            name, operands = _decoded(word)
            if name == "blr":
                _end(state)
                found = state.offsets["paca"], state.offsets["thread"]
                return Code(4 * at + 4, *found, state.entry)
            if name not in _STEPS:
                raise _WrongError(f"+{4 * at:#x} is none of its instructions")
            _STEPS[name](state, operands)
    except _WrongError as error:
        return str(error)
    return "it does not come to its end"


def _end(state: _State) -> None:
    if not state.called:
        raise _WrongError("it calls nothing")
    if state.lr != _LR:
        raise _WrongError("LR is not restored")
    if state.registers.get(2) != _R2:
        raise _WrongError("r2 is not restored")
    if state.height:
        raise _WrongError("the stack pointer is not put back")
    if not state.checked:
        raise _WrongError("the end of stack marker is not checked")


def _read(state: _State, register: int) -> Value:
    return state.registers.get(register, _UNKNOWN)


def _write(state: _State, register: int, value: Value) -> None:
    """r0, r11 and r12 are free throughout, r2 is once the target has returned."""
    if register not in ((0, 2, 11, 12) if state.called else (0, 11, 12)):
        raise _WrongError(f"it writes r{register}")
    state.registers[register] = value


def _address(state: _State, operand: str) -> Value:
    match = re.fullmatch(r"(-?(?:0x)?[0-9a-f]+)\(r(\d+)\)", operand)
    if match is None or match[2] == "0":
        raise _WrongError(f"it accesses {operand}")
    base = _read(state, int(match[2]))
    return Value(base.name, base.plus + int(match[1], 0))


def _field(state: _State, of: str, offset: int) -> None:
    """Notes an offset, which must be a likely one and the same each time."""
    if state.offsets.setdefault(of, offset) != offset:
        raise _WrongError(f"it uses {state.offsets[of]} and {offset} for the same field")
    if offset % 8 or not 0 <= offset < _LIMITS[of]:
        raise _WrongError(f"{offset} is no offset of a doubleword in a structure")


def _load(state: _State, operands: Sequence[str]) -> None:
    place = _address(state, operands[1])
    if place.name == "paca":
        _field(state, "paca", place.plus)
        value = Value("thread", 0)
    elif place.name == "thread":
        _field(state, "thread", place.plus)
        value = Value("stack", state.height)
    elif place.name == "stack" and 0 <= place.plus < state.height:
        value = state.stack.get(place.plus, _UNKNOWN)
        if state.called and value == Value("", MAGIC):
            value = _MARKER
    else:
        raise _WrongError(f"it loads from {place.plus}({place.name}), where nothing is kept")
    _write(state, _number(operands[0]), value)


def _store(state: _State, operands: Sequence[str]) -> None:
    value, place = _read(state, _number(operands[0])), _address(state, operands[1])
    if place.name == "thread":
        _field(state, "thread", place.plus)
        _move(state, value)
    elif place.name == "stack" and not state.called:
        if not 0 <= place.plus < state.height or place.plus % 8:
            raise _WrongError("it stores to what an interrupt may write over")
        state.stack[place.plus] = value
    else:
        raise _WrongError(f"it stores to {place.plus}({place.name})")


def _move(state: _State, value: Value) -> None:
    """The stack pointer is moved: up once, then down to where it was."""
    up = not state.called
    right = value.plus > 0 and value.plus % 8 == 0 and not state.height if up else not value.plus
    if value.name != "stack" or not right:
        raise _WrongError("the stack pointer is moved to a wrong place")
    if not up and not state.checked:
        raise _WrongError("the stack pointer is moved down before the marker is checked")
    state.height = value.plus


def _call(state: _State, _operands: Sequence[str]) -> None:
    kept = [state.stack.get(at) for at in range(0, state.height, 8)]
    if state.called or state.ctr != _CTR:
        raise _WrongError("it calls something else as well")
    if _read(state, 12) != _CTR:
        raise _WrongError("r12 is not the target's global entry at the call")
    if _R2 not in kept or _LR not in kept:
        raise _WrongError("r2 and LR are not both kept over the call")
    if kept[-1] != Value("", MAGIC):
        raise _WrongError("no end of stack marker is on top of the stack")
    state.registers = {number: state.registers[number] for number in (1, 13)}
    state.lr = state.ctr = _UNKNOWN
    state.entry, state.called = state.height, True


def _trap(state: _State, operands: Sequence[str]) -> None:
    if {_read(state, _number(one)) for one in operands} != {_MARKER, Value("", MAGIC)}:
        raise _WrongError("it traps for something else than the marker")
    state.checked = True


def _immediate(state: _State, operands: Sequence[str], *, shift: int = 0) -> None:
    """`addi`, and `lis` as an addition to nothing."""
    base = _read(state, _number(operands[1])) if len(operands) == 3 else Value("", 0)
    plus = int(operands[-1], 0) << shift
    if shift and plus >= 1 << 31:
        raise _WrongError("it makes a negative number")
    _write(state, _number(operands[0]), Value(base.name, base.plus + plus))


def _or(state: _State, operands: Sequence[str]) -> None:
    base, low = _read(state, _number(operands[1])), int(operands[2], 0)
    known = not base.name and not base.plus & 0xFFFF
    _write(state, _number(operands[0]), Value("", base.plus | low) if known else _UNKNOWN)


def _from_lr(state: _State, operands: Sequence[str]) -> None:
    _write(state, _number(operands[0]), state.lr)


def _from_ctr(state: _State, operands: Sequence[str]) -> None:
    _write(state, _number(operands[0]), state.ctr)


def _to_lr(state: _State, operands: Sequence[str]) -> None:
    if not state.called:
        raise _WrongError("it writes LR")
    state.lr = _read(state, _number(operands[0]))


def _copy(state: _State, operands: Sequence[str]) -> None:
    _write(state, _number(operands[0]), _read(state, _number(operands[1])))


_STEPS: Final[Mapping[str, Callable[[_State, Sequence[str]], None]]] = {
    "ld": _load,
    "std": _store,
    "addi": _immediate,
    "lis": partial(_immediate, shift=16),
    "ori": _or,
    "mr": _copy,
    "mflr": _from_lr,
    "mtlr": _to_lr,
    "mfctr": _from_ctr,
    "bctrl": _call,
    "tdne": _trap,
}


def _number(register: str) -> int:
    match = re.fullmatch(r"r(\d+)", register)
    if match is None:
        raise _WrongError(f"it uses {register}")
    return int(match[1])


def _decoded(word: int) -> tuple[str, list[str]]:
    for _, _, mnemonic, operands in _decoder().disasm_lite(word.to_bytes(4, "little"), 0):
        return mnemonic, operands.split(", ") if operands else []
    return "", []


@cache
def _decoder() -> Cs:
    import capstone

    return capstone.Cs(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_LITTLE_ENDIAN)
