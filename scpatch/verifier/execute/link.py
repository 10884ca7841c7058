"""Link the object with the harness into a program.

GNU ld makes a user-space program of any object, also of a kernel module or a whole vmlinux.o.
Undefined symbols are left at zero: no site uses them on the way to its target.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Sequence, Set
from importlib import resources
from pathlib import Path

from scpatch.errors import ScpatchError, damaged
from scpatch.verifier.execute.program import COMPLAINT, SLOT, STARTS, Program, read_program
from scpatch.verifier.execute.tools import Tools
from scpatch.verifier.objects.read import Image, UnreadableError, read
from scpatch.verifier.types import CallSite

_VISIBILITY, _STT_TLS = 3, 6
"""The bits of st_other that hold it, and the type of a thread-local symbol (gABI 4)."""


def link(path: Path, sites: Sequence[CallSite], tools: Tools, directory: Path) -> Program:
    """Link the object at `path` with the harness, in `directory`.

    Raises ScpatchError if the linker makes no program, or one without a site's section (SCP302),
    or for a damaged object (SCP107).
    """
    image = _read(path)
    (directory / "object.o").symlink_to(path.resolve())
    harness = resources.files("scpatch.verifier.execute").joinpath("harness.s").read_bytes()
    (directory / "harness.s").write_bytes(harness)
    undefined = sorted({site.trampoline for site in sites if not site.trampoline_section})
    marked = {site.trampoline for site in sites if site.marked}
    text = _trampolines(undefined, marked) + (_hidden(image, undefined) if image else "")
    (directory / "tramps.s").write_text(text, "utf-8", "surrogateescape")
    for name in ("harness", "tramps"):
        _call([tools.assembler, "-o", f"{name}.o", f"{name}.s"], directory, path)
    errors = _call(_ld_command(tools), directory, path)
    if image is None:
        raise damaged(str(path), "its section headers cannot be read")
    return read_program(path, image.sections, sites, undefined, directory, errors)


def _read(path: Path) -> Image | None:
    """The object; None for one that cannot be read, since the linker says what is wrong with it."""
    try:
        return read(path)
    except UnreadableError:
        return None


def _hidden(image: Image, others: Collection[str]) -> str:
    """Assembly source for the symbols that GNU ld requires to be defined: undefined symbols without
    default visibility. They are at zero, like all symbols that nobody defines."""
    skipped = {"", *others}
    symbols = {
        symbol.name: symbol.type
        for symbol in image.symbols
        if symbol.section == 0 and symbol.other & _VISIBILITY and symbol.name not in skipped
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

    The .toc entry makes the linker put a TOC beside the object even if the object has none.
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
        *(f"--section-start={name}={start:#x}" for name, start in STARTS.items()),
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
    complaint = COMPLAINT.search(errors)
    reason = f"{complaint[1]}+0x{complaint[2]}: {complaint[3]}" if complaint else lines[-1]
    return ScpatchError(
        "SCP302",
        f"cannot be linked into a program to run: {reason}",
        file=str(path),
        hint="--no-run leaves the run out; the proof does not need the linker",
    )
