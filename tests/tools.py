"""What several tests need: compilers, linkers, readelf as the second opinion, scpatch as a library.

Nothing is optional: a tool that is missing fails the test that calls it.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from scpatch.batch import attempt
from scpatch.elf.encoding import ByteOrder
from scpatch.elf.layout import Layout
from scpatch.errors import ScpatchError
from scpatch.files.inputs import open_input, read_object
from scpatch.files.selection import select
from scpatch.rewriter import FilePlan, Options, plan_file, without_repeats, write
from scpatch.sites.actions import Common
from scpatch.sites.model import Scan
from scpatch.strategies.scan import decided, scan

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "fixtures"


def in_both(*names: str) -> list[str]:
    """Prebuilt files, and their big-endian twins."""
    return [*names, *(f"big/{name}" for name in names)]


NATIVE = platform.machine() == "ppc64le"
"""This machine runs what the tests compile, and its own compilers make it."""
CROSS = os.environ.get("CROSS_COMPILE") or ("" if NATIVE else "powerpc64le-linux-gnu-")
_SYSROOT = os.environ.get("SYSROOT", "/usr/powerpc64le-linux-gnu")
_LIBRARIES = "/usr/lib/powerpc64le-linux-gnu" if NATIVE else f"{_SYSROOT}/lib"
LIBC = Path(_LIBRARIES, "libc.a")
GCC = [CROSS + "gcc"]
GXX = [CROSS + "g++"]
CLANG_OF: dict[ByteOrder, list[str]] = {
    "little": ["clang", "--target=powerpc64le-linux-gnu"],
    "big": ["clang", "--target=powerpc64-linux-gnu", "-mabi=elfv2"],
}
CLANG = CLANG_OF["little"]
LD = CROSS + "ld"
CROSS_BIG = "powerpc64-linux-gnu-"
"""The tools for big-endian programs. What they compile is ELFv1, unless told otherwise."""
LD_BIG = CROSS_BIG + "ld"
LLD = "ld.lld"
QEMU = [] if NATIVE else ["qemu-ppc64le", "-L", _SYSROOT]
QEMU_OF = {"little": QEMU, "big": ["qemu-ppc64"]}
"""What runs a static program, by its byte order."""
LD_FLAGS_OF = {"little": ["-EL", "-m", "elf64lppc"], "big": ["-EB", "-m", "elf64ppc"]}
"""What Linux gives its linker, by the byte order of the kernel."""

NOP, STD_R2, LD_R2, BL, B, BLR = (
    0x60000000,
    0xF8410018,
    0xE8410018,
    0x48000001,
    0x48000000,
    0x4E800020,
)

_MACROS = """
        .abiversion 2
        .machine power10
        .macro FUNC name
        .balign 16
        .globl \\name
        .type \\name, @function
\\name:
        .endm
        .macro TOC name
        FUNC \\name
0:      addis 2, 12, .TOC.-0b@ha
        addi 2, 2, .TOC.-0b@l
        .localentry \\name, .-\\name
        .endm
        .macro FRAME name
        TOC \\name
        mflr 0
        std 0, 16(1)
        stdu 1, -64(1)
        .endm
        .macro END name
        .size \\name, .-\\name
        .endm
        .macro LEAVE name
        addi 1, 1, 64
        ld 0, 16(1)
        mtlr 0
        blr
        END \\name
        .endm
        .macro CALL name:req
        bl \\name
        nop
        .endm
        .text
"""
"""FUNC, TOC and FRAME open a function: bare, with two entry points, with a frame of 64 bytes as
well. END and LEAVE close it: with nothing, or by leaving the frame."""


def run(
    *command: str | Path, stdin: str | None = None, cwd: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        cwd=cwd,
        text=True,
        errors="surrogateescape",
        capture_output=True,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


_WHEELS = {"capstone": ("x86_64", "aarch64"), "keystone": ("x86_64",)}
_WHEELS["lief"] = _WHEELS["capstone"]


def has_wheels(name: str) -> bool:
    """Whether an optional library can be installed on this machine. Where it can it must be."""
    return platform.machine() in _WHEELS[name]


def library(name: str) -> Any:
    """An optional library, to hold results against; what calls this is skipped on machines for
    which the library has no wheels."""
    if not has_wheels(name):
        pytest.skip(f"{name} has no wheels for {platform.machine()}", allow_module_level=True)
    return import_module(name)


def quiet(*command: str | Path, cwd: Path | None = None) -> None:
    """Runs a tool that must succeed without a word."""
    done = run(*command, cwd=cwd)
    assert (done.stdout, done.stderr) == ("", "")


def assemble(directory: Path, source: str, name: str = "x.o", *options: str) -> Path:
    path = directory / name
    run(CROSS + "as", *options, "-o", path, "-", stdin=_MACROS + source)
    return path


def compile_c(
    directory: Path,
    source: str | Path,
    *options: str,
    compiler: Sequence[str] = GCC,
    name: str = "x.o",
    language: str = "c",
) -> Path:
    path = directory / name
    text, file = (None, str(source)) if isinstance(source, Path) else (source, "-")
    run(*compiler, *options, "-x", language, "-c", "-o", path, file, stdin=text)
    return path


@dataclass(frozen=True)
class Shdr:
    """A line of `readelf -S`."""

    index: int
    name: str
    type: str
    offset: int
    size: int
    entsize: int
    flags: str
    link: int
    info: int
    align: int


@dataclass(frozen=True)
class Sym:
    """A line of `readelf -s`; `section` is UND, ABS, COM or a number."""

    index: int
    value: int
    size: int
    type: str
    bind: str
    visibility: str
    other: str
    section: str
    name: str


@dataclass(frozen=True)
class Rela:
    """A line of `readelf -r`."""

    table: str
    offset: int
    symbol: int
    type: str
    addend: int


_SHDR = re.compile(
    r"\s*\[ *(\d+)\] (.*?) +(\S+) +([0-9a-f]{16}) ([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) +([A-Zlop]*)"
    r" +(\d+) +(\d+) +(\d+)$"
)


def sections(path: Path) -> list[Shdr]:
    """All section headers as readelf reads them; it must not warn."""
    done = run(CROSS + "readelf", "-SW", path)
    assert done.stderr == ""
    rows = []
    for match in filter(None, map(_SHDR.match, done.stdout.splitlines())):
        index, name, kind, _, offset, size, entsize, flags, link, info, align = match.groups()
        start, length, each = int(offset, 16), int(size, 16), int(entsize, 16)
        rest = flags, int(link), int(info), int(align)
        rows.append(Shdr(int(index), name, kind, start, length, each, *rest))
    return rows


def section(path: Path, name: str) -> Shdr:
    (header,) = [section for section in sections(path) if section.name == name]
    return header


def symbols(path: Path) -> list[Sym]:
    """All symbols as readelf reads them; it must not warn."""
    done = run(CROSS + "readelf", "-sW", path)
    assert done.stderr == ""
    rows = []
    for line in done.stdout.splitlines():
        fields = line.split(None, 6)
        if len(fields) < 7 or not re.fullmatch(r"\d+:", fields[0]):
            continue
        other, rest = re.fullmatch(r"(?:(\[.*?\])\s+)?(.*)", fields[6]).groups()  # type: ignore[union-attr]
        where, _, name = rest.partition(" ")
        value, size = int(fields[1], 16), int(fields[2], 0)
        kinds = fields[3], fields[4], fields[5]
        rows.append(Sym(int(fields[0][:-1]), value, size, *kinds, other or "", where, name))
    return rows


def symbol(path: Path, name: str) -> Sym:
    (entry,) = [symbol for symbol in symbols(path) if symbol.name == name]
    return entry


def relocations(path: Path) -> list[Rela]:
    """All relocations as readelf reads them, in file order; it must not warn."""
    done = run(CROSS + "readelf", "-rW", path)
    assert done.stderr == ""
    rows, table = [], ""
    for line in done.stdout.splitlines():
        if match := re.match(r"Relocation section '(.*)' at", line):
            table = match[1]
        match = re.match(r"([0-9a-f]{16})  ([0-9a-f]{16}) (\S+)(.*)$", line)
        if match:
            tail = re.search(r"(?:([+-]) |\s)([0-9a-f]+)$", match[4])
            addend = int(tail[2], 16) * (-1 if tail[1] == "-" else 1) if tail else 0
            kind = match[3].removeprefix("R_PPC64_")
            rows.append(Rela(table, int(match[1], 16), int(match[2], 16) >> 32, kind, addend))
    return rows


def code(path: Path, name: str = ".text") -> list[int]:
    """The words of a section, cut out by objcopy."""
    out = path.with_name(path.name + ".section")
    run(CROSS + "objcopy", "-O", "binary", "-j", name, path, out)
    data = out.read_bytes()
    out.unlink()
    with path.open("rb") as file:
        order: ByteOrder = "big" if file.read(6)[5] == 2 else "little"
    return [int.from_bytes(data[at : at + 4], order) for at in range(0, len(data) & ~3, 4)]


def options(**changes: object) -> Options:
    """Options with some of the choices about sites changed."""
    return Options(**changes)  # type: ignore[arg-type]


def scan_file(path: Path, **choices: object) -> Scan:
    with open_input(path, unpacked=True) as source:
        elf = read_object(source.data, str(path))
        return decided(elf, scan(elf, options(**choices).choices))


def states(path: Path, **choices: object) -> dict[str, list[str]]:
    """The states of the call sites by function, with the code of refused ones."""
    states_by_function: defaultdict[str, list[str]] = defaultdict(list)
    for site in scan_file(path, **choices).sites:
        code = site.code if site.state is Common.REFUSED else ""
        states_by_function[site.function].append(f"{site.state} {code}".strip())
    return dict(states_by_function)


def rewrite(path: Path, target: Path | None = None, **choices: object) -> FilePlan:
    """Plans and writes one file, like `scpatch rewrite --keep-going`."""
    plan = plan_file(path, options(**choices), target)
    write([plan], allow_refused=True)
    return plan


def plan_all(
    paths: Sequence[Path], options: Options, target: Path | None = None
) -> tuple[list[FilePlan], list[ScpatchError]]:
    """The plans of files, and the errors of those that have none, as `scpatch rewrite` has them."""
    files = select(paths)
    plans, errors, _ = files.sort_out(
        attempt(plan_file, (file.source, options, target)) for file in files.files
    )
    good, clashes = without_repeats(plans)
    return good, errors + clashes


def rewritten(path: Path, **choices: object) -> Path:
    """A rewritten copy beside `path`."""
    target = path.with_name(path.stem + ".new" + path.suffix)
    rewrite(path, target, **choices)
    return target


def apply(data: bytes, layout: Layout) -> bytes:
    """The file that a layout describes, made in memory."""
    new = bytearray(layout.size)
    for copy in layout.copies:
        new[copy.target : copy.target + copy.size] = data[copy.source : copy.source + copy.size]
    for offset, part in layout.writes:
        assert offset + len(part) <= layout.size
        new[offset : offset + len(part)] = part
    return bytes(new)
