"""Links an object with static calls into a whole program, to see what the object really does.

Every function is called as the kernel would, with targets that wreck all that a callee may wreck,
r2 too. Two objects behave alike where their programs print the same and end alike. This is the
judge of `tests.fuzz.damage`; it shares nothing with what `scpatch verify` executes.
"""

from __future__ import annotations

import resource
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from elftools.elf.elffile import ELFFile

from scpatch.elf.encoding import ByteOrder
from tests.tools import LD, LD_FLAGS_OF, QEMU_OF, assemble, run

PACA_TOC, PACA_THREAD, LIVEPATCH_SP = 16, 2312, 16
_POKES = 8
_NOP, _B = 0x60000000, 0x48000000


class Call(NamedTuple):
    """A function to call; an argument may be the address of a symbol."""

    function: str
    arguments: tuple[int | str, ...]
    value: bool = True
    """Whether it returns a number; an address is not compared, since it depends on the layout."""


class Setting(NamedTuple):
    """What the kernel does before the calls."""

    calls: tuple[Call, ...]
    trampolines: Mapping[str, int]
    """Names, with the distance of the patched word from the symbol; those that the object does not
    define have -1."""
    slots: Mapping[str, str] = {}
    """For a trampoline that is to go to another TOC: the symbol that holds its target. Its patched
    word becomes a nop, before the path through that slot."""
    words: Mapping[str, tuple[str, int]] = {}
    """Functions in which a word is overwritten, as a feature section would: the absolute symbol
    whose value is its distance, since a label in the code would be an entry; and the word."""
    pokes: Mapping[str, tuple[int, int]] = {}
    """Symbols in data: (distance, doubleword) to be stored there."""
    elsewhere: str = "plain"
    """An undefined trampoline is `plain`, `marked` (st_other bits 5-7 = 1), or a `keeper` of r2."""


_START = """
        .macro address register, symbol
        lis \\register, (\\symbol)@ha
        addi \\register, \\register, (\\symbol)@l
        .endm
        .macro patterns kind
        .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        \\kind \\n
        .endr
        .endm
        .macro plant n
        li \\n, \\n * 257
        .endm
        .macro compare n
        xori \\n, \\n, \\n * 257
        or 5, 5, \\n
        .endm
        FUNC plain
        address 9, arrived
        ld 10, 0(9)
        mulli 10, 10, 31
        addi 10, 10, 99
        std 10, 0(9)
        sldi 3, 3, 1
        addi 3, 3, 1
        li 2, 0x666
        li 12, 0x777
        blr
        END plain
        FUNC _start
        stdu 1, -512(1)
        address 13, paca
        address 9, sp
        std 1, 0(9)
        address 8, pokes
1:      ld 9, 0(8)
        cmpdi 9, 0
        beq 2f
        ld 10, 8(8)
        std 10, 0(9)
        addi 8, 8, 16
        b 1b
2:
"""
_END = """
        li 3, 1
        address 4, out
        li 5, outend - out
        li 0, 4
        sc
        li 3, 0
        li 0, 234
        sc
        END _start
        .data
        .balign 8
        .globl pokes
pokes:  .fill {pokes}, 8, 0
sp:     .quad 0
out:    .fill {out}, 8, 0
arrived: .quad 1
outend:
        .balign 16
paca:   .fill 2, 8, 0x0bad
        .quad .TOC.
        .fill {gap}, 8, 0x0bad
        .quad thread
        .fill 200, 8, 0x0bad
thread: .quad 0, 0, 1f
        .fill 8, 8, 0x0bad
        .quad 0x57ac6e9d
1:      .fill 64, 8, 0
kept:   .fill 32, 8, 0
        .section .toc, "aw"
        .quad 0
"""


def byte_order(path: Path) -> ByteOrder:
    """Of an object or a program."""
    return "big" if path.read_bytes()[5] == 2 else "little"


def build(folder: Path, obj: Path, setting: Setting) -> Path | None:
    """The program of an object; None where GNU ld refuses to link it, or a symbol is missing."""
    order = byte_order(obj)
    driver = assemble(folder, _driver(setting), "driver.o", f"-m{order}")
    path = folder / "program"
    path.unlink(missing_ok=True)
    options = ["-static", "--traditional-format", "--unresolved-symbols=ignore-all"]
    done = run(LD, *LD_FLAGS_OF[order], *options, "-o", path, driver, obj, check=False)
    if done.returncode:
        return None
    try:
        _patch(path, setting)
    except (KeyError, struct.error):
        return None
    return path


def behaviour(folder: Path, obj: Path, setting: Setting) -> tuple[int, bytes] | None:
    """How the program ends and what it prints; None where there is no program."""
    path = build(folder, obj, setting)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [*QEMU_OF[byte_order(path)], str(path)],
            capture_output=True,
            preexec_fn=_limit,
            timeout=60,
            cwd=folder,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 999, b""
    # Whatever it dies of, it is not what it was: the kinds of death depend on what lies where.
    return (done.returncode, done.stdout) if done.returncode == 0 else (1, b"")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _driver(setting: Setting) -> str:
    lines = [_START]
    for number, call in enumerate(setting.calls):
        lines += ["address 2, .TOC.", "patterns plant"]
        for register, value in enumerate(call.arguments, 3):
            is_name = isinstance(value, str)
            lines.append(f"address {register}, {value}" if is_name else f"li {register}, {value}")
        lines += [f"bl {call.function}", "nop", "address 9, sp", "ld 8, 0(9)", "subf 4, 8, 1"]
        lines += ["mr 1, 8", "address 9, .TOC.", "subf 6, 9, 2", "li 5, 0", "patterns compare"]
        lines += ["li 3, 0"] * (not call.value)
        lines += ["address 9, out", f"std 3, {32 * number}(9)", f"std 4, {32 * number + 8}(9)"]
        lines += [f"std 5, {32 * number + 16}(9)", f"std 6, {32 * number + 24}(9)"]
    out = 4 * len(setting.calls)
    gap = (PACA_THREAD - PACA_TOC - 8) // 8
    lines.append(_END.format(pokes=2 * _POKES + 2, out=out, gap=gap))
    lines.append(".text")
    for number, (name, distance) in enumerate(setting.trampolines.items()):
        lines.append(_target(number))
        if distance < 0:
            lines.append(_elsewhere(name, number, setting.elsewhere))
    return "\n".join(lines)


def _target(number: int) -> str:
    """A target that leaves nothing as it was, but for what a callee must keep."""
    wrecked = "\n".join(f"li {index}, {0x700 + index}" for index in (0, *range(4, 13)))
    below = "\n".join(f"std 4, {-at}(1)" for at in range(8, 289, 8))
    return f"""
        FUNC hostile_{number}
        address 9, arrived
        ld 10, 0(9)
        mulli 10, 10, 31
        addi 10, 10, {number + 1}
        std 10, 0(9)
        mulli 3, 3, 3
        addi 3, 3, {number + 1}
        {wrecked}
        mtctr 4
        mtxer 5
        mtcrf 0xc7, 6
        {below}
        std 4, 8(1)
        std 4, 16(1)
        li 2, 0x2dad
        blr
        END hostile_{number}
"""


def _elsewhere(name: str, number: int, kind: str) -> str:
    """A trampoline that another object has."""
    body = f"b hostile_{number}"
    if kind == "marked":
        body = f".localentry {name}, 1\n{body}"
    if kind == "keeper":
        body = f"""address 11, kept
        mflr 0
        std 0, 0(11)
        std 2, 8(11)
        bl hostile_{number}
        address 11, kept
        ld 0, 0(11)
        ld 2, 8(11)
        mtlr 0
        blr"""
    return f"FUNC {name}\n{body}\nEND {name}\n"


def _patch(path: Path, setting: Setting) -> None:
    """Does to the program what the kernel does at run time: patches trampolines, fills slots."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        values = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        spans = [(s["p_vaddr"], s["p_filesz"], s["p_offset"]) for s in loads]
    data, order = bytearray(path.read_bytes()), ">" if byte_order(path) == "big" else "<"

    def put(address: int, form: str, *numbers: int) -> None:
        (offset,) = [at + address - a for a, size, at in spans if a <= address < a + size] or [None]
        if offset is None:
            raise KeyError(address)
        struct.pack_into(order + form, data, offset, *numbers)

    pokes: list[tuple[int, int]] = []
    for number, (name, distance) in enumerate(setting.trampolines.items()):
        if distance < 0:
            continue
        target, place = values[f"hostile_{number}"], values[name] + distance
        word = _NOP if name in setting.slots else _B | (target - place) & 0x3FFFFFC
        put(place, "I", word)
        if name in setting.slots:
            pokes.append((values[setting.slots[name]], target))
    pokes += [(values[name] + at, value) for name, (at, value) in setting.pokes.items()]
    for name, (distance_of, word) in setting.words.items():
        put(values[name] + values[distance_of], "I", word)
    put(values["pokes"], f"{2 * len(pokes)}Q", *(number for poke in pokes for number in poke))
    path.write_bytes(data)
