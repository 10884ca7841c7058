"""Link the object with the harness into a program.

GNU ld makes a user-space program of anything relocatable, a kernel module or a whole vmlinux.o
included: symbols that are not there are left at zero, since no site uses them on its way.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Sequence, Set
from importlib import resources
from pathlib import Path

from scpatch.errors import ScpatchError
from scpatch.verifier.execute.places import (
    CODE,
    COMPLAINT,
    FRAME,
    PACA,
    SLOT,
    STATE,
    THREAD,
    Program,
    read_program,
)
from scpatch.verifier.execute.tools import Tools
from scpatch.verifier.execute.types import RunSite
from scpatch.verifier.objects.read import UnreadableError, read

_VISIBILITY, _STT_TLS = 3, 6
"""The bits of st_other that hold it, and the type of a thread-local symbol (gABI 4)."""


def link(path: Path, sites: Sequence[RunSite], tools: Tools, directory: Path) -> Program:
    """Link the object at `path` with the harness, in `directory`.

    Raises ScpatchError (SCP302) if the linker makes no program, or one without a site's section.
    """
    (directory / "object.o").symlink_to(path.resolve())
    harness = resources.files("scpatch.verifier.execute").joinpath("harness.s").read_bytes()
    (directory / "harness.s").write_bytes(harness)
    undefined = sorted({site.trampoline for site in sites if not site.trampoline_section})
    marked = {site.trampoline for site in sites if site.marked}
    text = _trampolines(undefined, marked) + _hidden(path, undefined)
    (directory / "tramps.s").write_text(text, "utf-8", "surrogateescape")
    for name in ("harness", "tramps"):
        _call([tools.assembler, "-o", f"{name}.o", f"{name}.s"], directory, path)
    errors = _call(_ld_command(tools), directory, path)
    return read_program(path, sites, undefined, directory, errors)


def _hidden(path: Path, others: Collection[str]) -> str:
    """Assembly source of what GNU ld wants defined in any case: undefined symbols that are not of
    default visibility. At zero, as all that nobody defines."""
    try:
        found = read(path).symbols
    except UnreadableError:
        return ""  # the linker says what is wrong
    symbols = {
        one.name: one.type
        for one in found
        if one.section == 0 and one.other & _VISIBILITY and one.name and one.name not in others
    }
    lines = []
    for name, kind in sorted(symbols.items()):
        quoted = _quoted(name)
        lines.append(f".globl {quoted}")
        if kind == _STT_TLS:
            lines += ['.section .tbss, "awT", @nobits', f"{quoted}: .space 8"]
        else:
            lines.append(f".set {quoted}, 0")
    return "".join(line + "\n" for line in lines)


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _trampolines(undefined: list[str], marked: Set[str]) -> str:
    """Assembly source of the trampolines that the object only refers to.

    The .toc entry makes the linker put a TOC beside the object, also where the object has none.
    """
    lines = [
        '.section .toc, "aw"',
        ".quad 0",
        '.section .note.GNU-stack, ""',
        '.section .scpatch_tramps, "ax", @progbits',
    ]
    for name in undefined:
        quoted = _quoted(name)
        lines += [f".balign {SLOT}", f".globl {quoted}", f".type {quoted}, @function"]
        lines += [f"{quoted}:", *[f".localentry {quoted}, 1"] * (name in marked), "b ."]
    return "\n".join(lines) + "\n"


def _ld_command(tools: Tools) -> list[str]:
    starts = {"code": CODE, "state": STATE, "frame": FRAME, "paca": PACA, "thread": THREAD}
    return [
        tools.ld,
        "-static",
        "--unresolved-symbols=ignore-all",
        "--noinhibit-exec",
        "--no-multi-toc",
        "--build-id=none",
        "--strip-debug",
        "--verbose",  # else only the first ten overflows are told
        "-Map=map",
        "--entry=scpatch_harness_start",
        *(f"--section-start=.scpatch_{name}={start:#x}" for name, start in starts.items()),
        "-o",
        "prog",
        "harness.o",
        "tramps.o",
        "object.o",
    ]


def _call(command: list[str], directory: Path, path: Path) -> str:
    """Run the linker or the assembler, which must write its output; returns its stderr."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    output = command[command.index("-o") + 1]
    if done.returncode < 0 or not (directory / output).exists():
        raise _link_error(path, done.stderr)
    return done.stderr


def _link_error(path: Path, errors: str) -> ScpatchError:
    lines = errors.strip().splitlines() or ["no reason was given"]
    told = COMPLAINT.search(errors)
    reason = f"{told[1]}+0x{told[2]}: {told[3]}" if told else lines[-1]
    return ScpatchError(
        "SCP302",
        f"cannot be linked into a program to run: {reason}",
        file=str(path),
        hint="--no-run leaves the run out; the proof does not need the linker",
    )
