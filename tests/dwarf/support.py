"""Objects with debug information, and what other tools say about their lines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from scpatch.dwarf.lines import line_of
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from tests.tools import CROSS

PREFIX = CROSS
COMPILERS = {
    "gcc": [PREFIX + "gcc"],
    "clang": ["clang", "--target=powerpc64le-linux-gnu"],
}

HEADER = """\
static inline long twice(long x)
{
    if (x > 7)
        x = other(x, 9);
    return x + other(x, x);
}
"""

SOURCE = """\
long other(long, long);
#include "../include/twice.h"
#define SECTION(name) __attribute__((section(name), noinline))
long first(long x)
{
    long y = other(x, 1);
    for (long i = 0; i < y; i++)
        x += other(i, y);
    return x;
}
SECTION(".init.text") long second(long x)
{
    return twice(x) + first(x)
        - other(x, 2);
}
void empty(void) { __builtin_unreachable(); }
long third(long x)
{
    switch (x) {
    case 1: return other(x, 3);
    case 2: return twice(x + 1);
    case 9: return first(other(x, 4));
    }
#line 1000000 "generated.y"
    x += other(5, x);
#line 3
    return other(x, 6) + 1;
}
"""

ASSEMBLY = """\
        .text
        .globl entered
entered:
        nop
        li 3,1
        .section .noinstr.text,"ax"
aside:  bl entered
        nop
        .text
        bl aside
        nop
        blr
"""


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command; raises where it fails."""
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


def build(folder: Path, compiler: str, *options: str, source: str = "src/code.c") -> Path:
    """Compiles the sources above in `folder`, as a build system does: with relative names."""
    (folder / "src").mkdir(exist_ok=True)
    (folder / "include").mkdir(exist_ok=True)
    (folder / "include" / "twice.h").write_text(HEADER)
    (folder / "src" / "code.c").write_text(SOURCE)
    (folder / "src" / "code.S").write_text(ASSEMBLY)
    run(*COMPILERS[compiler], "-O2", "-c", *options, "-o", "code.o", source, cwd=folder)
    return folder / "code.o"


def read(path: Path) -> ElfFile:
    return ElfFile(memoryview(path.read_bytes()), path.name)


def words(elf: ElfFile) -> list[tuple[int, int]]:
    """The place of every instruction word."""
    return [
        (index, offset)
        for index, section in enumerate(elf.sections)
        if section.sh_flags & c.SHF_EXECINSTR
        for offset in range(0, section.sh_size, 4)
    ]


def ours(path: Path) -> dict[tuple[int, int], str]:
    """What scpatch says about every instruction word; file names made whole."""
    elf = read(path)
    return {place: absolute(text, path.parent) for place, text in line_of(elf, words(elf)).items()}


def theirs(path: Path) -> dict[tuple[int, int], str]:
    """The same from addr2line."""
    elf = read(path)
    lines = {}
    for index in {section for section, _ in words(elf)}:
        offsets = [offset for section, offset in words(elf) if section == index]
        name = elf.section_name(index)
        output = run(
            PREFIX + "addr2line", "-j", name, "-e", path, *map(hex, offsets), cwd=path.parent
        )
        for offset, text in zip(offsets, output.splitlines(), strict=True):
            line = text.split(" (discriminator")[0]
            if not line.startswith("??") and not line.endswith((":?", ":0")):
                lines[index, offset] = absolute(line, path.parent)
    return lines


def absolute(line: str, folder: Path) -> str:
    name, _, number = line.rpartition(":")
    return f"{os.path.normpath(folder / name)}:{number}"


def debug_line(elf: ElfFile) -> int:
    """The index of .debug_line."""
    [index] = [i for i in range(len(elf.sections)) if elf.section_name(i) == ".debug_line"]
    return index
