"""What scanning, rewriting and proving cost where there is ever more of one kind of thing.

Each number is doubled, and the cost of twice as much should be twice as high at most. The cost is
the time, and the number of steps that Python makes: those are the same in each run.

    python -m tests.bench.growth
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import scpatch
from scpatch.files.inputs import is_archive, open_input, read_object
from scpatch.rewriter import Options, plan_file, write
from scpatch.strategies.scan import scan
from scpatch.verifier.files import check_file, verify_files
from scpatch.verifier.options import VerifyOptions
from tests.tools import CROSS, assemble, run

TraceFunction = Callable[[FrameType, str, Any], Any]
SAVE = "std 2, 24(1)\n"


def _site(number: int, trampoline: str = "x") -> str:
    return f"cmpdi 3, {number % 1000}\n beq 1f\n CALL __SCT__{trampoline}\n1:\n"


def _function(number: int, section: str = "") -> str:
    head = f'.section .text.f{number}, "ax"\n' if section else ""
    return f"{head}FRAME f{number}\n{SAVE}{_site(number)}LEAVE f{number}\n"


def _sites(count: int) -> str:
    return f"FRAME f\n{SAVE}" + "".join(map(_site, range(count))) + "LEAVE f\n"


def _hoisted(count: int) -> str:
    body = "".join(map(_site, range(count)))
    return f"FUNC g\n blr\nEND g\nFRAME f\n bl g\n nop\n{body}LEAVE f\n"


def _saves(count: int) -> str:
    body = "".join(f"cmpdi 3, 1\n beq 1f\n {SAVE}1: CALL __SCT__x\n" for _ in range(count))
    return f"FRAME f\n{SAVE}{body}LEAVE f\n"


def _functions(count: int) -> str:
    return "".join(map(_function, range(count)))


def _sections(count: int) -> str:
    return "".join(_function(number, "own") for number in range(count))


def _stubs(count: int) -> str:
    """Sections of their own, each with a call that needs a stub, and padding at its end."""
    return "".join(
        f'.section .text.f{n}, "ax"\nFRAME f{n}\n{_site(n)}LEAVE f{n}\n nop\n' for n in range(count)
    )


def _trampolines(count: int) -> str:
    tramps = "".join(f"FUNC __SCT__t{n}\n blr\nEND __SCT__t{n}\n" for n in range(count))
    calls = "".join(_site(number, f"t{number}") for number in range(count))
    return f"{tramps}FRAME f\n{calls}LEAVE f\n"


def _jump_table(count: int) -> str:
    """A switch: each label is in a table that another function jumps by."""
    labels = "".join(f".L{n}: {_site(n)}" for n in range(count))
    entries = "".join(f".long .L{n}-.Ltab\n" for n in range(count))
    load = "addis 9, 2, .Ltab@toc@ha\n addi 9, 9, .Ltab@toc@l\n"
    table = f'.section .rodata, "a"\n.Ltab:\n{entries}.text\n'
    return f"FRAME f\n{SAVE}{labels}LEAVE f\nFUNC g\n {load} mtctr 9\n bctr\nEND g\n{table}"


def _features(count: int) -> str:
    """Feature sections, each with a call in it."""
    body = "".join(f".Lb{n}: {_site(n)}.Le{n}:\n" for n in range(count))
    entries = (f"5: .quad 1, 1, .Lb{n}-5b, .Le{n}-5b, .La-5b, .La-5b\n" for n in range(count))
    table = '.section __ftr_fixup, "a"\n .balign 8\n' + "".join(entries)
    return f'FRAME f\n{SAVE}{body}LEAVE f\n.section __ftr_alt_97, "a"\n.La:\n{table}'


KINDS: dict[str, Callable[[int], str]] = {
    "calls of a function": _sites,
    "calls behind one nop": _hoisted,
    "saves in a row": _saves,
    "functions": _functions,
    "sections": _sections,
    "sections with a stub": _stubs,
    "trampolines": _trampolines,
    "entries of a jump table": _jump_table,
    "feature sections": _features,
    "archive members": lambda _: _sites(4),
}
"""By what grows, the code of an object with so many of it; of archives, that of each member."""


@dataclass(frozen=True)
class Cost:
    seconds: float
    steps: int
    """Lines that Python executes, and rounds of loops within one; 0 where they were not counted."""


def make(folder: Path, kind: str, count: int) -> Path:
    """An object or archive with so many things of a kind."""
    name = f"{kind.replace(' ', '-')}-{count}"
    path = assemble(folder, KINDS[kind](count), f"{name}.o")
    if kind != "archive members":
        return path
    members = [folder / f"{name}-{number}.o" for number in range(count)]
    for member in members:
        member.write_bytes(path.read_bytes())
    archive = folder / f"{name}.a"
    run(CROSS + "ar", "rcs", archive, *members)
    return archive


def steps(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """The steps whose cost is of interest, each to be done once and in this order."""
    new = path.with_name(f"new-{path.name}")
    options = Options(undefined="rewrite", hoist="kernel")

    def look() -> None:
        with open_input(path) as source:
            if not is_archive(source.data):
                scan(read_object(source.data, str(path)), options.choices)

    def prove() -> None:
        verdicts = verify_files(path, new, VerifyOptions(for_kernel=True))
        assert all(verdict.proven for verdict in verdicts), path

    yield "scan", look
    yield "rewrite", lambda: write([plan_file(path, options, new)])
    yield "verify", prove
    yield "diff", lambda: scpatch.diff(path, new)
    yield "check", lambda: check_file(new, VerifyOptions(for_kernel=True))


def cost(step: Callable[[], object], *, count: bool) -> Cost:
    steps = 0

    def seen(_frame: FrameType, _event: str, _argument: object) -> TraceFunction:
        nonlocal steps
        steps += 1
        return seen

    start = time.perf_counter()
    if count:
        sys.settrace(seen)
    try:
        step()
    finally:
        sys.settrace(None)
    return Cost(time.perf_counter() - start, steps)


def table(folder: Path, kind: str, counts: Sequence[int]) -> Iterator[str]:
    """Rows of a table: the seconds of each step, and how many times as many as with half."""
    before: dict[str, float] = {}
    for count in counts:
        cells = [f"{count:,}"]
        for name, step in steps(make(folder, kind, count)):
            seconds = cost(step, count=False).seconds
            ratio = f" ({seconds / before[name]:.1f}x)" if name in before else ""
            cells.append(f"{seconds:.2f} s{ratio}")
            before[name] = seconds
        yield f"| {kind} | " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--first", type=int, default=500, help="the smallest number")
    parser.add_argument("--doublings", type=int, default=4, help="how often it is doubled")
    options = parser.parse_args(arguments)
    counts = [options.first << step for step in range(options.doublings + 1)]
    print("| what grows | number | scan | rewrite | verify --no-run | diff | check |")
    print("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="scpatch-growth-") as folder:
            for row in table(Path(folder), kind, counts):
                print(row, flush=True)


if __name__ == "__main__":
    main()
