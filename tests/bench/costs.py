"""What the strategies cost: `python -m tests.bench.costs --write PAGE [FILE...]`.

FILE... are objects whose call sites are counted; without them it is the test kernel's vmlinux.o,
and its linked images, which are built where they are not there yet.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scpatch import strategies
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_file
from scpatch.sites.actions import Action
from scpatch.strategies.callsite import Rewrite
from scpatch.verifier.files import verify_link
from tests.bench import calls
from tests.bench.calls import LINKERS, MARKED, NAIVE, OFFSETS, TARGETS, Counted, Rewritten, extra

HEAD = """# What a call costs

The instructions that one static call executes, and the code that a rewrite adds. Nothing here is
timed: QEMU logs every instruction that it executes, so the figures are exact and the same on any
machine. They do not say how long the instructions take on a real processor. This page was written
by

    python -m tests.bench.costs --write docs/explanation/costs.md

## One call

The count starts at the call's first instruction and ends where the caller continues. It leaves out
the target's instructions from its local entry on. The trampolines are those of `fixtures/kernel`: a
branch to a target with the caller's TOC, or else a load of the target's address and a jump to its
global entry, whose two instructions count too. A call through a pointer counts from the load of the
pointer.
"""

RIGHT = """
The naive call returns from another TOC with a wrong r2; all others returned with the right one. A
stub of `callsite` costs as much as the linker's stub, a store and a branch. `localentry` costs two
more: its trampolines load r2 from the PACA in place of the prologue's two instructions, which calls
to the local entry otherwise skip. Without a PACA it costs another six. "r2 saved before" means that
r2 is already at `24(r1)`, or that the nop after an earlier call can store it
([how it works](how-it-works.md#is-r2-saved-already)).
"""

THREAD = """
## What was measured in 2022

The author of the series on linuxppc-dev (September 2022) timed calls on a Power9. These figures are
his, not ours, and in another unit: calls per millisecond, so more is better. The static calls went
through the linker's stub. He attributed to it that calls of a target with another TOC became
slower. Caller, trampoline and target are in the kernel (K) or a module (M).

| calls per millisecond, Power9, 2022 | indirect call | static call |
|---|---:|---:|
| K K K | 89657 | 177835 |
| K K M | 89835 | 53853 |
"""

BY_HAND = "\n## In a booted kernel\n"

PROGRAM_SITES = len([name for name in calls.COMMON if name != "indirect"]) * len(TARGETS)


@dataclass(frozen=True)
class Row:
    """The figures of one kind of call."""

    label: str
    same: int
    other: int
    right: bool
    more: tuple[int, int] | None
    """Than the naive call, for both targets; None for a call through a pointer."""


@dataclass(frozen=True)
class Program:
    """What a strategy did to the program of `tests.bench.calls`."""

    rows: tuple[Row, ...]
    size: int
    """Bytes of code more than the naive program's, those of the linker included."""
    stubs: int


def rows(label: str, naive: Counted, counted: Counted, rewritten: Rewritten) -> Iterator[Row]:
    """One row for each kind of call in a program."""
    seen: set[tuple[int, ...]] = set()
    for caller in calls.COMMON:
        if caller == "indirect":
            continue
        same, other = (f"{caller}_{target}" for target in TARGETS)
        more = extra(naive, counted)
        pair = more[same], more[other]
        if pair in seen:
            continue
        seen.add(pair)
        state = rewritten.states.get(same)
        wrong = counted.wrong & {same, other}
        # Of one call alone: without the other call whose nop it uses.
        base = naive.calls["fresh_same"], naive.calls["fresh_other"]
        name = f"{label}, {_STATES[state]}" if state in _STATES else label
        yield Row(name, base[0] + pair[0], base[1] + pair[1], not wrong, pair)


_STATES: dict[Action, str] = {Rewrite.REWRITE: "by a stub", Rewrite.SAVED: "r2 saved before"}


def measure(folder: Path) -> dict[str, Program]:
    """Every program, by its label. The linkers must treat it alike."""
    programs: dict[str, Program] = {}
    made = {label: calls.rewritten(_new(folder, label), label) for label in labels()}
    for label, rewritten in made.items():
        by_linker = {}
        for linker in LINKERS:
            naive = calls.count(folder, made[NAIVE].path, linker)
            counted = calls.count(folder, rewritten.path, linker)
            found_rows = tuple(rows(_NAMES.get(label, f"`{label}`"), naive, counted, rewritten))
            stubs = len(rewritten.plan.plan.stubs) if rewritten.plan else 0
            by_linker[linker] = Program(found_rows, counted.size - naive.size, stubs)
            if label == NAIVE:
                same, other = (counted.calls[f"indirect_{target}"] for target in TARGETS)
                pointer = Row("a function pointer", same, other, True, None)
                programs["indirect"] = Program((pointer,), 0, 0)
        assert len({each.rows for each in by_linker.values()}) == 1, f"the linkers differ: {label}"
        programs[label] = max(by_linker.values(), key=lambda each: each.size)
    return programs


_NAMES = {NAIVE: "naive", MARKED: "the linker's stub"}


def labels() -> list[str]:
    return [NAIVE, MARKED, *strategies.names()]


def _new(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def program_table(programs: dict[str, Program]) -> Iterator[str]:
    yield "| | same TOC | other TOC | extra |"
    yield "|---|---:|---:|---:|"
    for program in programs.values():
        for row in program.rows:
            other = f"{row.other}" if row.right else f"{row.other}, **r2 is wrong**"
            more = "-" if row.more is None else f"+{row.more[0]}, +{row.more[1]}"
            yield f"| {row.label} | {row.same} | {other} | {more} |"


@dataclass(frozen=True)
class Share:
    """What a strategy does to an object."""

    label: str
    sites: int
    """Those that it makes right."""
    free: int
    """Those that cost nothing more, whatever the target's TOC."""
    stubs: int
    trampolines: int
    size: int
    """Bytes of code added to the object."""
    same: float
    other: float
    """Instructions executed more a call, on the average of all its sites."""


def share(path: Path, strategy: str, hoist: str, offsets: Offsets) -> Share | str:
    """The figures for an object of the image; the diagnostic where it cannot be applied."""
    options = Options(strategy, undefined="rewrite", hoist=hoist, offsets=offsets)
    try:
        plan = plan_file(path, options, path.with_name("never-written"))
    except ScpatchError as error:
        return error.code
    cost = strategies.load(strategy).cost(offsets)
    objects = [entry.plan for entry in plan.objects]
    states = Counter(site.state for each in objects for site in each.sites if site.state in cost)
    sites = states.total()
    label = f"`{strategy}`" + (f", `--hoist {hoist}`" if hoist != "auto" else "")
    total = [sum(cost[state][at] * number for state, number in states.items()) for at in (0, 1)]
    return Share(
        label=label,
        sites=sites,
        free=sum(number for state, number in states.items() if not any(cost[state])),
        stubs=sum(len(each.stubs) for each in objects),
        trampolines=sum(len(each.trampolines) for each in objects),
        size=sum(each.code_bytes for each in objects),
        same=total[0] / sites if sites else 0.0,
        other=total[1] / sites if sites else 0.0,
    )


def shares(path: Path, offsets: Offsets) -> list[Share | str]:
    rows = []
    for name in strategies.names():
        rows.append(share(path, name, "auto", offsets))
        if name == strategies.DEFAULT:
            rows.append(share(path, name, "kernel", offsets))
    return rows


def share_table(path: Path, offsets: Offsets, programs: dict[str, Program]) -> Iterator[str]:
    yield "| | sites | free | stubs | trampolines changed | bytes | per site | extra per call |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    figures = shares(path, offsets)
    (linkers,) = programs[MARKED].rows
    assert linkers.more is not None, "it is compared with the naive call"
    sites = max(row.sites for row in figures if isinstance(row, Share))
    same, other = linkers.more
    yield f"| the linker's stub | {sites} | 0 (0.0%) | - | - | - | - | {same:.2f}, {other:.2f} |"
    for row in figures:
        if isinstance(row, Share) and row.sites:
            free = f"{row.free} ({row.free / row.sites:.1%})"
            more = f"{row.same:.2f}, {row.other:.2f}"
            per_site = f"{row.size / row.sites:.1f}"
            yield (
                f"| {row.label} | {row.sites} | {free} | {row.stubs} | {row.trampolines} "
                f"| {row.size} | {per_site} | {more} |"
            )


_FREE = {"saved", "paca"}
"""What the proof says of calls in an image that execute no extra instruction."""


def image_table(images: Mapping[str, Path]) -> Iterator[str]:
    """A row for each linked vmlinux, by the options that it was linked with."""
    cost = strategies.load(strategies.DEFAULT).cost(OFFSETS)[Rewrite.REWRITE]
    assert cost.same == cost.other, "the column is for both"
    yield "| `scpatch-ld` | sites | free | stubs | extra per call |"
    yield "|---|---:|---:|---:|---:|"
    for options, path in images.items():
        proof = verify_link([], path).proof
        states = Counter(str(site.state) for site in proof.sites)
        assert not proof.errors, proof.errors
        assert states.keys() <= _FREE | {"stub"}, states
        sites, stubs = states.total(), states["stub"]
        free = f"{sites - stubs} ({(sites - stubs) / sites:.1%})"
        yield f"| {options} | {sites} | {free} | {stubs} | {cost.same * stubs / sites:.3f} |"


def page(files: Sequence[Path], images: Mapping[str, Path], offsets: Offsets) -> str:
    with tempfile.TemporaryDirectory(prefix="scpatch-costs-") as folder:
        programs = measure(Path(folder))
    text = HEAD + "\n" + "\n".join(program_table(programs)) + "\n" + RIGHT
    text += CODE.format(sites=PROGRAM_SITES) + "\n".join(code_table(programs)) + "\n"
    for path in files:
        text += (
            OBJECT.format(name=path.name) + "\n".join(share_table(path, offsets, programs)) + "\n"
        )
    if images:
        text += IMAGE + "\n".join(image_table(images)) + "\n"
    return text + THREAD


CODE = """
The table below shows the added code for the {sites} call sites and two trampolines of this program.
It includes what the linker adds, and takes GNU ld or lld, whichever adds more. A stub of `callsite`
is eight bytes for each section and trampoline; the linker makes a stub for each trampoline. The
code of `livepatch-stack` is there once per section.

| | stubs by scpatch | bytes of code | per site | per trampoline |
|---|---:|---:|---:|---:|
"""

OBJECT = """
## All calls of {name}

Every call site counts once, however often it is executed. A `free` call site executes no extra
instruction. The bytes are those in the object; for `localentry` the linker's stubs come on top. The
last column is for targets with the caller's TOC and with another.

"""

IMAGE = """
## All calls of the image

`scpatch-ld` knows all objects of the image, and hoists saves after calls of other objects'
functions. These are the call sites of the linked vmlinux, by what `scpatch verify` says of each.
The figure is the same for a target with the caller's TOC and with another.

"""


def code_table(programs: dict[str, Program]) -> Iterator[str]:
    for name, program in programs.items():
        # A marked trampoline of the program is smaller to begin with.
        if name in strategies.names():
            each = program.size / PROGRAM_SITES, program.size / len(TARGETS)
            yield f"| `{name}` | {program.stubs} | {program.size} | {each[0]:.1f} | {each[1]:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.costs", description=__doc__)
    parser.add_argument("--write", type=Path, help="write the page here, not to stdout")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    asked = parser.parse_args()
    images = {} if asked.files else _images()
    files = asked.files or [images.pop("").with_name("vmlinux.o")]
    text = page(files, images, OFFSETS)
    if asked.write:
        asked.write.write_text(text + _by_hand(asked.write))
    else:
        print(text, end="")


def _by_hand(page: Path) -> str:
    """The end of the page, which is not written here: see `tests.bench.kernel_workload`."""
    _, heading, rest = page.read_text().partition(BY_HAND) if page.exists() else ("", "", "")
    return heading + rest


def _images() -> dict[str, Path]:
    """The test kernel's vmlinux by the options of scpatch-ld; without scpatch by no name."""
    from tests.kernel import variants
    from tests.kernel.build import build
    from tests.kernel.linux import select

    kinds = {
        "": variants.NAIVE,
        "no option": variants.BY_PACA,
        "`--strategy=callsite`": variants.REWRITTEN,
        "`--strategy=callsite --prelink`": variants.PRELINKED,
    }
    (linux, *_) = select().full
    return {options: build(linux, variant).vmlinux for options, variant in kinds.items()}


if __name__ == "__main__":
    main()
