"""Linked images with static calls, and what objdump and readelf say of them."""

from __future__ import annotations

import re
from pathlib import Path

from scpatch.elf.encoding import ByteOrder
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import FilePlan, Options, plan_file, write
from tests.tools import CROSS, LD, LD_FLAGS_OF, LLD, assemble, run

PACATOC = 16
LOAD = 0xE84D0010
"""`ld r2,16(r13)`"""

LINKS = {
    "exec": [LD],
    "pie": [LD, "-pie", "--no-dynamic-linker"],
    "exec with relocations": [LD, "--emit-relocs"],
    "pie with relocations": [LD, "-pie", "--no-dynamic-linker", "--emit-relocs"],
    "lld": [LLD],
    "lld pie": [LLD, "-pie", "--no-dynamic-linker"],
    "big-endian": [LD, *LD_FLAGS_OF["big"]],
    "big-endian pie": [LD, *LD_FLAGS_OF["big"], "-pie", "--no-dynamic-linker"],
    "big-endian lld": [LLD, *LD_FLAGS_OF["big"]],
}
"""Linkers and options for the images that a kernel can be."""

TRAMPOLINES = """
        FUNC __SCT__x
        b target
        .space 28
        END __SCT__x
        TOC __SCT__y
        b target
        END __SCT__y
        FUNC target
        blr
        END target
"""
SOURCE = f"""
        .globl _start
        FRAME _start
        CALL __SCT__x
        CALL __SCT__y
        CALL target
        LEAVE _start
        {TRAMPOLINES}
        .section .init.text, "ax"
        FRAME early
        CALL __SCT__x
        LEAVE early
        .data
        .quad __SCT__x
        .section .comment, "MS", @progbits, 1
        .asciz "a compiler"
"""
"""Three call sites in two sections."""


def assembled(folder: Path, source: str, how: str) -> Path:
    """An object for such a link."""
    return assemble(folder, source, "x.o", "-mbig" if "-EB" in LINKS[how] else "-mlittle")


def link(
    folder: Path,
    source: str = SOURCE,
    how: str = "exec",
    *options: str,
    name: str = "vmlinux",
) -> Path:
    """Assembles and links."""
    path = folder / name
    run(*LINKS[how], *options, "-o", path, assembled(folder, source, how))
    return path


def patch_image(path: Path, offset: int | None = PACATOC) -> FilePlan:
    """`scpatch rewrite --strategy paca`, in place."""
    plan = plan_file(path, Options("paca", offsets=Offsets(paca_toc=offset)))
    write([plan], allow_refused=True)
    return plan


def patched(path: Path) -> Path:
    """A patched copy."""
    new = path.with_name("patched-" + path.name)
    new.write_bytes(path.read_bytes())
    patch_image(new)
    return new


def calls(path: Path, callee: str = r"(?:__SCT__|\w+\.\w+_branch\.)[^>]*") -> dict[int, str]:
    """Address of each `bl` to a trampoline -> the instruction after it, by objdump."""
    text = run(CROSS + "objdump", "-d", "--no-show-raw-insn", path).stdout
    pattern = rf"^\s*([0-9a-f]+):\s+bl +[0-9a-f]+ <{callee}>\n(?:\s*[0-9a-f]+:\s+(.*))?"
    return {int(at, 16): after.strip() for at, after in re.findall(pattern, text, re.MULTILINE)}


def addresses(path: Path) -> dict[str, int]:
    """sh_addr of each section, by readelf."""
    text = run(CROSS + "readelf", "-SW", path).stdout
    rows = re.findall(r"\[ *\d+\] (\S+) +\S+ +([0-9a-f]{16}) ", text)
    return {name: int(address, 16) for name, address in rows}


def segments(path: Path) -> str:
    """The program headers, and which sections lie in them."""
    return run(CROSS + "readelf", "-lW", path).stdout


def file_offset(path: Path, address: int) -> int:
    """The file offset of a virtual address."""
    for line in segments(path).splitlines():
        if fields := re.match(r"\s+LOAD\s+0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", line):
            offset, start, size = (int(field, 16) for field in fields.groups())
            if start <= address < start + size:
                return offset + address - start
    raise KeyError(hex(address))


def with_words(path: Path, words: dict[int, int], name: str = "changed") -> Path:
    """A copy with other words at some addresses, as another tool would write them."""
    data = bytearray(path.read_bytes())
    order: ByteOrder = "big" if data[5] == 2 else "little"
    for address, word in words.items():
        at = file_offset(path, address)
        data[at : at + 4] = word.to_bytes(4, order)
    new = path.with_name(name)
    new.write_bytes(data)
    return new
