"""The same source in both byte orders: scpatch must find and do the same, as objdump lists it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.saved.labels import find_labels
from tests import tools
from tests.strategies.livepatch_support import OFFSETS, trampoline
from tests.strategies.localentry_support import CALLER, TRAMPOLINE
from tests.tools import CLANG, CROSS, FIXTURES, GCC, run, scan_file

ORDERS: Final = ("little", "big")

_JUMPS: Final = """
FRAME jumps
 std 2, 24(1)
 addis 4, 2, table@toc@ha
 addi 4, 4, table@toc@l
 lwax 5, 4, 3
 add 5, 5, 4
 mtctr 5
 bctr
 .balign 4
table: .long 1f-table, 2f-table
1: CALL __SCT__x
 CALL after
2: CALL __SCT__x
 bcl 20, 31, 3f
3: mflr 6
 addis 6, 6, 4f-3b@ha
 addi 6, 6, 4f-3b@l
 mtctr 6
 bctr
4: CALL __SCT__x
LEAVE jumps
.section .text.far, "ax"
FRAME far
 CALL __SCT__x
 bcl 20, 31, 5f
5: mflr 6
 addis 6, 6, 4b-5b@ha
 addi 6, 6, 4b-5b@l
 mtctr 6
 bctr
LEAVE far
.text
FRAME after
LEAVE after
"""
"""A table of distances, and addresses that code computes from its own."""

_RESOLVED: Final = """
.type __SCT__l, @function
__SCT__l: b target
.size __SCT__l, .-__SCT__l
FRAME f
 bl __SCT__l
 nop
 bl __SCT__l
LEAVE f
.byte 0, 0, 0
"""
"""Calls without a relocation, and a section that ends inside a word."""

_LOADED: Final = """
FUNC __SCT__x
 .reloc ., R_PPC64_ENTRY
 ld 2, -8(12)
 add 2, 2, 12
 .localentry __SCT__x, .-__SCT__x
 b target
END __SCT__x
FUNC __SCT__y
 lis 2, .TOC.@ha
 addi 2, 2, .TOC.@l
 .localentry __SCT__y, .-__SCT__y
 b target
END __SCT__y
"""
SOURCES: Final = {
    "trampolines": TRAMPOLINE.format(name="__SCT__x")
    + trampoline("__SCT__y")
    + CALLER.format(name="f", call="CALL __SCT__x\n CALL __SCT__y"),
    "jumps": _JUMPS,
    "resolved": _RESOLVED,
    "prologues": TRAMPOLINE.format(name="__SCT__z")
    + _LOADED
    + CALLER.format(name="f", call="CALL __SCT__x\n CALL __SCT__y\n CALL __SCT__z"),
}
COMPILED: Final = ("sites.S", "refused.S", "marked.S", "unmarked.S", "calls.c", "module.c")
CASES: Final = (*COMPILED, "clang calls.c", *SOURCES)
STRATEGIES: Final[dict[str, dict[str, object]]] = {
    "callsite": {"strategy": "callsite"},
    "thunks": {"strategy": "callsite", "no_nop": "thunk"},
    "paca": {"strategy": "paca", "offsets": Offsets(paca_toc=16)},
    "localentry, image": {"strategy": "localentry", "offsets": Offsets(paca_toc=16)},
    "localentry": {"strategy": "localentry"},
    "livepatch-stack": {"strategy": "livepatch-stack", "offsets": OFFSETS},
}


def built(directory: Path, case: str, order: str) -> Path:
    if case in SOURCES:
        return tools.assemble(directory, SOURCES[case], f"{order}.o", f"-m{order}")
    # Compilers choose other instructions for each byte order, so both get the same assembly. Data
    # in code must read the same in both: no traceback tables, and a string that is a palindrome.
    source, assembly = FIXTURES / case.split()[-1], directory / "x.s"
    assembly.write_text(source.read_text().replace('"text"', '"xxxx"'))
    if source.suffix == ".c":
        clang = case.startswith("clang")
        compiler = [*CLANG, "-fno-addrsig"] if clang else [*GCC, "-mtraceback=no"]
        run(*compiler, "-O2", "-S", "-o", assembly, source)
    path = directory / f"{order}.o"
    run(*GCC, f"-m{order}-endian", "-c", "-o", path, assembly)
    return path


_HALF: Final = re.compile(
    r"\t+([0-9a-f]+): (R_PPC64_\w*16\w*|R_PPC64_NONE)\t(.*?)((?:[+-]0x[0-9a-f]+)?)$"
)
_DIGEST: Final = re.compile(r"\.[0-9a-f]{12}\b")


def listing(path: Path) -> list[str]:
    """What objdump and readelf say of the code, the relocations and the symbols, as if the file
    were little-endian. A relocation of 16 bits is two bytes further on in a big-endian file, and a
    distance counts from there."""
    shown = run(CROSS + "objdump", "-d", "-r", "--no-show-raw-insn", path).stdout.splitlines()
    lines = [line for line in shown if "file format" not in line]
    kept: list[str] = []
    for line in lines:
        if match := _HALF.match(line):
            offset, addend = int(match[1], 16), int(match[4] or "0", 16)
            rest = offset % 4
            addend -= rest if "REL16" in match[2] else 0
            line = f"\t{offset - rest:x}: {match[2]}\t{match[3]}{addend:+#x}"
        kept.append(_DIGEST.sub(".DIGEST", line))
    table = run(CROSS + "readelf", "-sW", path).stdout
    symbols = [_DIGEST.sub(".DIGEST", line) for line in table.splitlines()]
    comment = run(CROSS + "readelf", "-p", ".comment", path, check=False).stdout
    return [*kept, *symbols, *re.findall(r"scpatch.*", comment)]


def in_both(do: Callable[[str], object]) -> None:
    little, big = map(do, ORDERS)
    assert big == little


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folders = {case: tmp_path_factory.mktemp("case") for case in CASES}
    return {(case, order): built(folders[case], case, order) for case in CASES for order in ORDERS}


@pytest.mark.parametrize("case", CASES)
def test_the_same_call_sites(objects: dict[tuple[str, str], Path], case: str) -> None:
    def sites(order: str) -> list[tuple[object, ...]]:
        scan = scan_file(objects[case, order])
        return [(*site[:6], site.kind, site.state, site.code, site.saves) for site in scan.sites]

    assert sites("little")
    in_both(sites)


@pytest.mark.parametrize("case", CASES)
def test_the_same_labels(objects: dict[tuple[str, str], Path], case: str) -> None:
    def labels(order: str) -> object:
        elf = ElfFile(memoryview(objects[case, order].read_bytes()), order)
        return find_labels(elf, list(elf.code_sections()))

    in_both(labels)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_rewrite(
    tmp_path: Path, objects: dict[tuple[str, str], Path], case: str, strategy: str
) -> None:
    def rewritten(order: str) -> object:
        target = tmp_path / f"{order}.o"
        try:
            tools.rewrite(objects[case, order], target, **STRATEGIES[strategy])
        except ScpatchError as error:
            return error.code, error.message
        return listing(target)

    in_both(rewritten)
