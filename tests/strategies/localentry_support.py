"""Objects with trampolines, what `localentry` makes of them, and programs to run them in."""

from __future__ import annotations

from pathlib import Path

from scpatch.linux.offsets import Offsets
from scpatch.rewriter import FilePlan, Options, plan_file, write
from tests import tools
from tests.tools import CROSS, LLD, assemble

LINKERS = (tools.LD, LLD)
PACA_TOC = 16

# As in fixtures/kernel: the word behind the prologue is patched, and behind it r2 is used.
TRAMPOLINE = """
        TOC {name}
        b target
        addis 12, 2, slot@toc@ha
        ld 12, slot@toc@l(12)
        mtctr 12
        bctr
        END {name}
"""

CALLER = """
        FRAME {name}
        std 31, 56(1)
        mr 31, 2
        {call}
        xor 3, 2, 31
        addic 4, 3, -1
        subfe 3, 4, 3
        ld 31, 56(1)
        LEAVE {name}
"""
"""Returns 1 where r2 was changed by the call, else 0."""

# Another unit, as it were: it counts arrivals with a wrong r2 and comes back with a foreign one.
_PROGRAM = """
        .macro address register, symbol
        lis \\register, \\symbol@ha
        addi \\register, \\register, \\symbol@l
        .endm

        FUNC target
        address 11, .TOC.
        cmpd 2, 11
        address 11, arrived
        ld 12, 0(11)
        addi 12, 12, 1
        std 12, 0(11)
        beq 1f
        ld 12, 8(11)
        addi 12, 12, 1
        std 12, 8(11)
1:      li 2, 0x666
        li 12, 0x777
        blr
        END target

        FUNC _start
        stdu 1, -256(1)
        address 13, paca
        address 2, .TOC.
        std 2, {paca_toc}(13)
        li 30, 0
{calls}
        address 4, arrived
        ld 5, 8(4)
        ld 4, 0(4)
        cmpdi 4, {count}
        li 3, 101
        bne 2f
        cmpdi 5, 0
        li 3, 102
        bne 2f
        mr 3, 30
2:      li 0, 234
        sc
        END _start

        .data
        .balign 8
arrived: .quad 0, 0
        .globl slot
slot:   .quad 0
paca:   .skip 64
        .section .toc, "aw"
        .quad 0
"""


def program(
    directory: Path, callers: list[str], pointers: list[str], order: str = "little"
) -> Path:
    """The object that calls `callers` as functions, and the trampolines `pointers` by address
    with nothing of use in r2 and r12. Exit status: a bit for each caller that came back with a
    foreign r2; 101: not all calls have arrived; 102: at the target r2 was not the TOC pointer."""
    lines = []
    for number, name in enumerate(callers):
        lines += [f"bl {name}", "nop", f"sldi 3, 3, {number}", "or 30, 30, 3", "address 2, .TOC."]
    for name in pointers:
        lines += [f"address 4, {name}", "mtctr 4", "li 2, 0x111", "li 12, 0x222", "bctrl"]
    count = len(callers) + len(pointers)
    text = _PROGRAM.format(paca_toc=PACA_TOC, calls="\n".join(lines), count=count)
    return assemble(directory, text, "program.o", f"-m{order}")


def status(linker: str, directory: Path, *objects: Path, order: str = "little") -> int:
    """The exit status of the program that a linker makes of the objects."""
    image = link(linker, directory, *objects, order=order)
    return tools.run(*tools.QEMU_OF[order], image, check=False).returncode


def link(linker: str, directory: Path, *objects: Path, order: str = "little") -> Path:
    """A program at a fixed address. GNU ld is kept from making `lis r2` of prologues there, which
    would not need r12."""
    image = directory / "program"
    options = ["--traditional-format"] if linker == tools.LD else []
    tools.run(linker, *tools.LD_FLAGS_OF[order], *options, "-o", image, *objects)
    return image


def options(
    *,
    paca: bool = False,
    strategy: str = "localentry",
    unmark: bool = False,
    no_nop: str = "refuse",
) -> Options:
    offsets = Offsets(paca_toc=PACA_TOC if paca else None)
    return Options(strategy, no_nop=no_nop, offsets=offsets, unmark=unmark)


def marked(
    path: Path, *, paca: bool = False, strategy: str = "localentry", unmark: bool = False
) -> Path:
    """A rewritten copy beside `path`."""
    target = path.with_name(f"{path.stem}.{strategy}{path.suffix}")
    write(
        [plan(path, paca=paca, strategy=strategy, unmark=unmark, target=target)], allow_refused=True
    )
    return target


def plan(
    path: Path,
    *,
    paca: bool = False,
    strategy: str = "localentry",
    unmark: bool = False,
    target: Path | None = None,
) -> FilePlan:
    return plan_file(path, options(paca=paca, strategy=strategy, unmark=unmark), target)


def st_other(path: Path, name: str) -> str:
    """What readelf prints of the three bits: `[<localentry>: 8]`; empty for 0."""
    return tools.symbol(path, name).other


def disassembly(path: Path) -> str:
    return tools.run(CROSS + "objdump", "-dr", "--no-show-raw-insn", path).stdout
