"""Reports about many programs: the tables of the reliability page, and a folder per failure."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.fuzz.programs import toolchain
from tests.fuzz.programs.check import VARIANTS, Result, Variant
from tests.tools import LD

STATES: Final = ("rewrite", "saved", "thunk", "paca", "linker", "trampoline", "done", "notoc")


def tables(results: Sequence[Result]) -> str:
    """Markdown: totals, by compiler, by option set, by variant."""
    parts = [_totals(results)]
    parts.append(_groups("compiler", results, lambda one: one.compiler.name))
    parts.append(_groups("options", results, lambda one: one.options.name))
    parts.append(_variants(results))
    return "\n\n".join(parts) + "\n"


def _totals(results: Sequence[Result]) -> str:
    tried = [one for result in results for one in result.tried]
    return (
        f"{len(results):,} programs with {sum(one.sites for one in results):,} call sites "
        f"({sum(one.reached for one in results):,} of them reached), "
        f"{len({one.options.name for one in results})} option sets, "
        f"{len({one.compiler.name for one in results})} compilers, "
        f"{len(tried):,} rewritten programs; {sum(one.naive_failed for one in results):,} programs "
        f"failed unrewritten; {sum(bool(one.failures) for one in results):,} programs with a "
        f"failure, {sum(not one.same for one in tried):,} outputs differ, "
        f"{sum(not one.proven for one in tried):,} not proven."
    )


def _groups(title: str, results: Sequence[Result], key: Callable[[Result], str]) -> str:
    groups: dict[str, list[Result]] = defaultdict(list)
    for one in results:
        groups[key(one)].append(one)
    rows = []
    for name, group in groups.items():
        tried = [one for result in group for one in result.tried]
        rows.append(
            [
                f"`{name}`",
                len(group),
                sum(one.sites for one in group),
                sum(one.naive_failed for one in group),
                len(tried),
                sum(not one.same for one in tried),
                sum(bool(one.failures) for one in group),
            ]
        )
    heads = ["programs", "sites", "unrewritten failed", "rewritten", "output differs", "failures"]
    return _table([title, *heads], rows)


def _variants(results: Sequence[Result]) -> str:
    rows = []
    failed = Counter(
        failure.variant
        for result in results
        for failure in {one.variant: one for one in result.failures}.values()
    )
    for variant in VARIANTS:
        tried = [one for result in results for one in result.tried if one.variant == variant.name]
        states: Counter[str] = sum((one.states for one in tried), Counter())
        executed = sum(one.executed for one in tried)
        good = sum(one.same for one in tried)
        proven = sum(one.proven for one in tried)
        images = sum(one.image_proven for one in tried)
        counts = [states[name] for name in STATES]
        rows.append(
            [
                variant.name,
                len(tried),
                *counts,
                good,
                proven,
                images,
                executed,
                failed[variant.name],
            ]
        )
    heads = [
        "rewritten",
        *STATES,
        "same output",
        "proven",
        "image proven",
        "sites executed",
        "failures",
    ]
    return _table(["variant", *heads], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    lines += [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def keep(result: Result, folder: Path) -> Path:
    """Puts a failing program into a folder of its own, with a script that shows each failure."""
    target = folder / f"{result.program.seed}-{result.compiler.name}"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("shared.h", "targets.c", "trampolines.S", "start.S", "hostile.S"):
        shutil.copy(toolchain.HERE / name, target / name)
    (target / "a.c").write_text(result.program.unit_a)
    (target / "b.c").write_text(result.program.unit_b)
    lines = [f"{one.variant} | {one.kind} | {one.detail}" for one in result.failures]
    (target / "failures.txt").write_text("\n".join(lines) + "\n")
    (target / "reproduce.sh").write_text(script(result))
    return target


def script(result: Result) -> str:
    """A shell script, for the folder of the program, that makes and runs every failing variant."""
    words = result.options.of(result.compiler) or ()
    names = {failure.variant for failure in result.failures}
    lines = [
        "#!/bin/sh",
        f"# seed {result.program.seed}, {result.compiler.name}, {result.options.name}",
        'cd "$(dirname "$0")" || exit 1',
    ]
    lines += [_shell(toolchain.constant_command(name, Path())) for name in toolchain.CONSTANT]
    for unit, more in (("a", result.options.only_a), ("b", result.options.only_b)):
        command = toolchain.compile_command(
            result.compiler, (*words, *more), Path(f"{unit}.c"), Path(f"{unit}.o")
        )
        lines.append(_shell(command))
    lines.append(f"{LD} -r -o merged.o a.o inside.o b.o")
    lines += _linked("ld", "merged.o", "outside.o", "harmless.o", "reference")
    for variant in VARIANTS:
        if variant.name in names:
            lines += _variant(variant, result)
    return "\n".join(lines) + "\n"


def _shell(command: Sequence[str]) -> str:
    """A command with the files of the harness in the current folder."""
    return shlex.join(
        word.replace(f"{toolchain.HERE}/", "").replace(str(toolchain.HERE), ".") for word in command
    )


def _linked(linker: str, merged: str, outside: str, targets: str, name: str) -> list[str]:
    parts = [merged, outside, "start.o", "targets.o", targets]
    command = toolchain.link_command(toolchain.LINKERS[linker], parts, name)
    return [_shell(command), f"{shlex.join(toolchain.QEMU)} ./{name} > {name}.txt; echo {name}: $?"]


def _variant(variant: Variant, result: Result) -> list[str]:
    lines = ["", f"echo '== {variant.name}'"]
    options = ["--strategy", variant.strategy, "--hoist", variant.hoist]
    if variant.strategy == "callsite" and result.program.has_no_nop:
        options += ["--no-nop", "thunk"]
    if variant.undefined != "auto":
        options += ["--undefined", variant.undefined]
    options += ["--emit-sites"] * variant.emit_sites
    given = []
    if variant.offsets.paca_toc is not None:
        numbers = zip(
            ("PACATOC", "PACA_THREAD_INFO", "TI_livepatch_sp"), variant.offsets, strict=True
        )
        text = "".join(f"#define {name} {number}\\n" for name, number in numbers)
        lines.append(f"printf '{text}' > asm-offsets.h")
        given = ["--asm-offsets", "asm-offsets.h"]
    pairs = [("outside.o", "new-outside.o")]
    pairs += [("a.o", "new-a.o"), ("b.o", "new-b.o")] if variant.apart else [("merged.o", "new.o")]
    for before, after in pairs:
        lines.append(shlex.join(["scpatch", "rewrite", *options, *given, before, "-o", after]))
        check = ["scpatch", "verify", "--hoist", variant.hoist, *given, before, after]
        lines.append(shlex.join(check))
    if variant.apart:
        lines.append(f"{LD} -r -o new.o new-a.o inside.o new-b.o")
    lines += _linked(variant.linker, "new.o", "new-outside.o", variant.targets, "program")
    lines.append("cmp reference.txt program.txt")
    lines.append(shlex.join(["scpatch", "verify", *given, "new.o", "new-outside.o", "program"]))
    return lines
