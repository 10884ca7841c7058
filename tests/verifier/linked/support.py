"""Links images with static calls, and asks the verifier about them."""

from __future__ import annotations

from pathlib import Path

from scpatch.verifier.files import verify_link
from scpatch.verifier.verdict import Verdict
from tests.strategies.localentry_support import CALLER, TRAMPOLINE
from tests.tools import CROSS, assemble, run

T = "__SCT__x"
MARKED = f"FUNC {T}\n .localentry {T},1\n b target\n END {T}\n"
START = "FUNC target\n blr\n END target\nFUNC _start\n blr\n .data\n .globl slot\nslot: .quad 0\n"


def caller(call: str, *, name: str = "f") -> str:
    """A function that makes a call."""
    return CALLER.format(name=name, call=call)


def with_trampoline(call: str) -> str:
    """A trampoline, and a function that makes a call of it."""
    return TRAMPOLINE.format(name=T) + caller(call)


def link(directory: Path, linker: str, *objects: Path, options: list[str] | None = None) -> Path:
    """An image of the objects and of what they need."""
    path = directory / "image"
    run(linker, *(options or []), "-o", path, assemble(directory, START, "start.o"), *objects)
    return path


def far(directory: Path, address: int) -> list[str]:
    """The linker's options to put the section .far at an address."""
    script = directory / "script"
    script.write_text(f"SECTIONS {{ .far {address:#x} : {{ *(.far) }} }} INSERT AFTER .bss;\n")
    return ["-T", str(script)]


def look(image: Path, *objects: Path) -> Verdict:
    return verify_link(objects, image)


def states(verdict: Verdict) -> dict[str, str]:
    return {site.function: site.state for site in verdict.proof.sites}


def code(path: Path) -> str:
    return run(CROSS + "objdump", "-d", "-Mpower10", "--no-show-raw-insn", path).stdout
