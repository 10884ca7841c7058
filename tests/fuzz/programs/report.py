"""Reports about many programs: the tables of the reliability page, and a folder per failure."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from scpatch.elf.encoding import ByteOrder
from tests.fuzz.programs import toolchain
from tests.fuzz.programs.check import VARIANTS, Result, Variant

STATES: Final = ("rewrite", "saved", "thunk", "paca", "linker", "trampoline", "done", "notoc")


def tables(results: Sequence[Result]) -> str:
    """Markdown: totals, by compiler, by option set, by variant."""
    parts = [_totals(results)]
    parts.append(_groups("compiler", results, lambda result: result.compiler.name))
    parts.append(_groups("options", results, lambda result: result.options.name))
    parts.append(_variants(results))
    return "\n\n".join(parts) + "\n"


def _totals(results: Sequence[Result]) -> str:
    tried = [attempt for result in results for attempt in result.tried]
    sites = sum(result.sites for result in results)
    reached = sum(result.reached for result in results)
    options = {result.options.name for result in results}
    compilers = {result.compiler.name for result in results}
    failed_before = sum(result.naive_failed for result in results)
    failed = sum(bool(result.failures) for result in results)
    different = sum(not attempt.same for attempt in tried)
    unproven = sum(not attempt.proven for attempt in tried)
    return (
        f"{len(results):,} programs with {sites:,} call sites ({reached:,} of them reached), "
        f"{len(options)} option sets, {len(compilers)} compilers, {len(tried):,} rewritten "
        f"programs; {failed_before:,} programs failed before the rewrite; {failed:,} programs "
        f"with a failure, {different:,} outputs differ, {unproven:,} not proven."
    )


def _groups(title: str, results: Sequence[Result], key: Callable[[Result], str]) -> str:
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    rows = []
    for name, group in groups.items():
        tried = [attempt for result in group for attempt in result.tried]
        rows.append(
            [
                f"`{name}`",
                len(group),
                sum(result.sites for result in group),
                sum(result.naive_failed for result in group),
                len(tried),
                sum(not attempt.same for attempt in tried),
                sum(bool(result.failures) for result in group),
            ]
        )
    heads = ["programs", "sites", "unrewritten failed", "rewritten", "output differs", "failures"]
    return _table([title, *heads], rows)


def _variants(results: Sequence[Result]) -> str:
    rows = []
    failed = Counter(
        failure.variant
        for result in results
        for failure in {failure.variant: failure for failure in result.failures}.values()
    )
    for variant in VARIANTS:
        tried = [
            attempt
            for result in results
            for attempt in result.tried
            if attempt.variant == variant.name
        ]
        states: Counter[str] = sum((attempt.states for attempt in tried), Counter())
        executed = sum(attempt.executed for attempt in tried)
        good = sum(attempt.same for attempt in tried)
        proven = sum(attempt.proven for attempt in tried)
        images = sum(attempt.image_proven for attempt in tried)
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
    """Writes a failing program into a new folder, with a script that shows each failure."""
    target = folder / f"{result.program.seed}-{result.compiler.name}"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("shared.h", "targets.c", "trampolines.S", "start.S", "hostile.S"):
        shutil.copy(toolchain.HERE / name, target / name)
    (target / "a.c").write_text(result.program.unit_a)
    (target / "b.c").write_text(result.program.unit_b)
    lines = [
        f"{failure.variant} | {failure.kind} | {failure.detail}" for failure in result.failures
    ]
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
    order = result.compiler.byte_order
    commands = [toolchain.constant_command(name, Path(), order) for name in toolchain.CONSTANT]
    lines += map(_shell, commands)
    for unit, more in (("a", result.options.only_a), ("b", result.options.only_b)):
        command = toolchain.compile_command(
            result.compiler, (*words, *more), Path(f"{unit}.c"), Path(f"{unit}.o")
        )
        lines.append(_shell(command))
    merge = toolchain.merge_command(["a.o", "inside.o", "b.o"], "merged.o", order)
    lines.append(shlex.join(merge))
    lines += _linked(order, "ld", "merged.o", "outside.o", "harmless.o", "reference")
    for variant in VARIANTS:
        if variant.name in names:
            lines += _variant(variant, result)
    return "\n".join(lines) + "\n"


def _shell(command: Sequence[str]) -> str:
    """A command with the files of the harness in the current folder."""
    return shlex.join(
        word.replace(f"{toolchain.HERE}/", "").replace(str(toolchain.HERE), ".") for word in command
    )


def _linked(
    order: ByteOrder, linker: str, merged: str, outside: str, targets: str, name: str
) -> list[str]:
    parts = [merged, outside, "start.o", "targets.o", targets]
    link = _shell(toolchain.link_command(linker, parts, name, order))
    run = shlex.join([*toolchain.emulator(order), f"./{name}"])
    return [link, f"{run} > {name}.txt; echo {name}: $?"]


def _variant(variant: Variant, result: Result) -> list[str]:
    lines, order = ["", f"echo '== {variant.name}'"], result.compiler.byte_order
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
        check = [
            "scpatch",
            "verify",
            "--format=plain",
            "--hoist",
            variant.hoist,
            *given,
            before,
            after,
        ]
        lines.append(shlex.join(check))
    if variant.apart:
        merge = toolchain.merge_command(["new-a.o", "inside.o", "new-b.o"], "new.o", order)
        lines.append(shlex.join(merge))
    lines += _linked(order, variant.linker, "new.o", "new-outside.o", variant.targets, "program")
    lines.append("cmp reference.txt program.txt")
    lines.append(
        shlex.join(
            ["scpatch", "verify", "--format=plain", *given, "new.o", "new-outside.o", "program"]
        )
    )
    return lines
