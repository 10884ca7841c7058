"""What to do about a file that is refused, for the cases in which more is known than its code says.

Imported only for a refused file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scpatch.elf import constants as c
from scpatch.ppc64.variant import EM_PPC64

_OBJECT: Final = "pass the object that the compiler or `ld -r` wrote"
_STARTS: Final[Mapping[bytes, str]] = {
    b"MZ": "the kernel's image is the ELF file vmlinux",
    b"rust\0": "it is the metadata of a Rust crate; the code is in the .o files of the .rlib",
    b"!<ar": "it is an archive in another format",
    b"7z\xbc": "it is a 7z archive",
    b"PK\x03\x04": "it is a zip archive",
    b"\x04\x22\x4d\x18": "it is compressed with lz4; unpack it first",
    b"\x02\x21\x4c\x18": "it is compressed with lz4; unpack it first",
}
"""What files are by their first bytes."""
_HEAD: Final = 512
"""Bytes that tell a text."""
EMPTY: Final = "build it again: a compiler that was stopped, or a full disk, leaves an empty file"
_EM_PPC: Final = 20


def not_elf(data: memoryview, name: str) -> str:
    """The hint for content, perhaps unpacked, that is not an ELF file."""
    head = bytes(data[:_HEAD])
    for start, what in _STARTS.items():
        if head.startswith(start):
            return what
    is_text = all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in head)
    if head and is_text:
        return f"it is a text; {_OBJECT}"
    packed = name.endswith((".gz", ".xz", ".zst", ".bz2"))
    what = "there is no object in it; the kernel's image is the ELF file vmlinux, packed or not"
    return what if packed else ""


def other_machine(machine: int) -> str:
    """The hint for an object that is not for ppc64."""
    if machine in (_EM_PPC, EM_PPC64):
        return "build it for 64 bits: CONFIG_PPC64=y, or -m64 -mabi=elfv2"
    return "build it with ARCH=powerpc and CROSS_COMPILE=powerpc64le-linux-gnu-"


def not_relocatable(kind: int) -> str:
    """The hint for an ELF file by its e_type, which is not that of an object."""
    if kind == c.ET_CORE:
        return f"a core dump is what a crash leaves of a program; {_OBJECT}"
    return "" if kind in (c.ET_EXEC, c.ET_DYN) else _OBJECT


def cannot_read(path: Path, error: Exception) -> str:
    """The hint for a file that cannot be opened."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT and path.is_symlink():
        return f"it is a symbolic link to {os.readlink(path)}, which is not there"
    if number == errno.ENOENT and path.name.endswith("\r"):
        return "the name ends with a carriage return: write the list with Unix line ends"
    if number == errno.ENOENT and "\n" in str(path):
        return "the name has line ends in it: without -0, a list has one name a line"
    return _above(path) if number in (errno.ENOENT, errno.ENOTDIR) else ""


def cannot_write(path: Path, error: Exception) -> str:
    """The hint for a file that cannot be made."""
    number = error.errno if isinstance(error, OSError) else None
    return _above(path, "; make it first") if number in (errno.ENOENT, errno.ENOTDIR) else ""


def _above(path: Path, missing: str = "") -> str:
    """Why the folder of a path cannot be entered; empty if it can."""
    first = next((folder for folder in reversed(path.parents) if not folder.is_dir()), None)
    if first is None:
        return ""
    return f"{first} is not a folder" if first.exists() else f"there is no folder {first}{missing}"
