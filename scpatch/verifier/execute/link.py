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
from typing import Final

from scpatch.errors import ScpatchError, damaged
from scpatch.verifier.execute.program import COMPLAINT, SLOT, STARTS, Program, read_program
from scpatch.verifier.objects.read import Image, UnreadableError, read
from scpatch.verifier.tools import MACHINES, Machine, Tools
from scpatch.verifier.types import CallSite

_LD_OPTIONS = (
    *("-static", "--unresolved-symbols=ignore-all", "--noinhibit-exec", "--no-multi-toc"),
    *("--build-id=none", "--strip-debug", "-Map=map", "--entry=scpatch_harness_start"),
    "--verbose",  # otherwise the linker reports only the first ten overflows
    *(f"--section-start={name}={start:#x}" for name, start in STARTS.items()),
    *("-o", "prog", "harness.o", "tramps.o", "object.o"),
)
_assembled: Final[dict[tuple[str, str, bytes], bytes]] = {}
"""Objects, by assembler, its option for the byte order, and source."""
_KEPT: Final = 64
_VISIBILITY, _STT_TLS = 3, 6
"""The bits of st_other that hold it, and the type of a thread-local symbol (gABI 4)."""


def link(path: Path, sites: Sequence[CallSite], tools: Tools, directory: Path) -> Program:
    """Link the object at `path` with the harness, in `directory`.

    Raises ScpatchError if the linker makes no program, or one without a site's section (SCP302),
    or for a damaged object (SCP107).
    """
    try:
        image = read(path)
    except UnreadableError:
        image = None  # the linker says what is wrong with it
    machine = MACHINES[image.variant.byte_order if image else "little"]
    (directory / "object.o").symlink_to(path.resolve())
    harness = resources.files("scpatch.verifier.execute").joinpath("harness.s").read_bytes()
    undefined = sorted({site.trampoline for site in sites if not site.trampoline_section})
    marked = {site.trampoline for site in sites if site.marked}
    text = _trampolines(undefined, marked) + (_hidden(image, undefined) if image else "")
    trampolines = text.encode("utf-8", "surrogateescape")
    for name, source in ("harness", harness), ("tramps", trampolines):
        _assemble(name, source, tools.assembler, machine, directory, path)
    errors = _call([tools.ld, "-m", machine.emulation, *_LD_OPTIONS], directory, path)
    if image is None:
        raise damaged(str(path), "its section headers cannot be read")
    return read_program(path, image, sites, undefined, directory, errors)


def _hidden(image: Image, others: Collection[str]) -> str:
    """Assembly source for the symbols that GNU ld requires to be defined: undefined symbols without
    default visibility. They are at zero, like all symbols that nobody defines."""
    symbols = {
        symbol.name: symbol.type
        for symbol in image.symbols
        if symbol.section == 0 and symbol.other & _VISIBILITY and symbol.name not in {"", *others}
    }
    text = ""
    for name, kind in sorted(symbols.items()):
        quoted = _quoted(name)
        text += f".globl {quoted}\n"
        if kind == _STT_TLS:
            text += f'.section .tbss, "awT", @nobits\n{quoted}: .space 8\n'
        else:
            text += f".set {quoted}, 0\n"
    return text


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _trampolines(undefined: list[str], marked: Set[str]) -> str:
    """Assembly source of the trampolines that the object only refers to.

    The .toc entry makes the linker put a TOC beside the object even if the object has none.
    """
    text = '.abiversion 2\n.section .toc, "aw"\n.quad 0\n.section .note.GNU-stack, ""\n'
    text += '.section .scpatch_tramps, "ax", @progbits\n'
    for name in undefined:
        quoted = _quoted(name)
        text += f".balign {SLOT}\n.globl {quoted}\n.type {quoted}, @function\n{quoted}:\n"
        text += f".localentry {quoted}, 1\n" * (name in marked) + "b .\n"
    return text


def _assemble(
    name: str, source: bytes, assembler: str, machine: Machine, directory: Path, path: Path
) -> None:
    """Makes NAME.o in `directory`. The same source is assembled once: the harness, and trampolines
    that both versions of an object, or all modules, call."""
    output, key = directory / f"{name}.o", (assembler, machine.assemble, source)
    if key in _assembled:
        output.write_bytes(_assembled[key])
        return
    (directory / f"{name}.s").write_bytes(source)
    options = ("-a64", machine.assemble, "-o", output.name, f"{name}.s")
    _call([assembler, *options], directory, path)
    if len(_assembled) >= _KEPT:
        _assembled.clear()
    _assembled[key] = output.read_bytes()


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
    if done.returncode >= 0 and (directory / output).exists():
        return done.stderr
    lines = done.stderr.strip().splitlines() or ["no reason was given"]
    complaint = COMPLAINT.search(done.stderr)
    reason = f"{complaint[1]}+0x{complaint[2]}: {complaint[3]}" if complaint else lines[-1]
    raise ScpatchError(
        "SCP302",
        f"cannot be linked into a program to run: {reason}",
        file=str(path),
        hint="--no-run leaves the run out; the proof does not need the linker",
    )
