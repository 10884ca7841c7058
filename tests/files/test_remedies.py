"""What is said about a refused file, by what the file is."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.files.inputs import open_input, read_object
from scpatch.files.output import resolve
from scpatch.files.remedies import not_elf
from tests.tools import FIXTURES, run

OBJECT = (FIXTURES / "calls-gcc.o").read_bytes()


def of_type(kind: int) -> bytes:
    """An object with another e_type."""
    return OBJECT[:16] + struct.pack("<H", kind) + OBJECT[18:]


def refusal(content: bytes, name: str = "x.o") -> ScpatchError:
    with pytest.raises(ScpatchError) as caught:
        read_object(memoryview(content), name)
    return caught.value


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"int x;\n", "it is a text; pass the object that the compiler or `ld -r` wrote"),
        (b"MZ\0\0", "the kernel's image is the ELF file vmlinux"),
        (b"PK\x03\x04", "it is a zip archive"),
        (b"\x04\x22\x4d\x18\x40", "it is compressed with lz4; unpack it first"),
        (b"rust\0\0\0\x09", "it is the metadata of a Rust crate; the code is in the .o files"),
        (of_type(4), "a core dump is what a crash leaves of a program; pass the object"),
        (of_type(9), "pass the object that the compiler or `ld -r` wrote"),
        ((FIXTURES / "x86_64.o").read_bytes(), "build it with ARCH=powerpc and CROSS_COMPILE="),
        ((FIXTURES / "ppc32-be.o").read_bytes(), "build it for 64 bits: CONFIG_PPC64=y"),
    ],
)
def test_the_content(content: bytes, hint: str) -> None:
    assert refusal(content).hint.startswith(hint)


@pytest.mark.parametrize("content", [b"", b"\0\1\2\3", bytes(range(256))])
def test_of_other_content_nothing_is_known(content: bytes) -> None:
    assert not_elf(memoryview(content), "x.o") == ""


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    hints = {
        "none/x.o": f"there is no folder {tmp_path}/none",
        "file/x.o": f"{tmp_path}/file is not a folder",
        "link": "it is a symbolic link to gone, which is not there",
        ".": "name the files in it",
        "pipe": "`-` reads standard input, also from a pipe",
        "file": "build it again: a compiler that was stopped, or a full disk, leaves an empty file",
        "x.o": "",
        "x.o\r": "the name ends with a carriage return: write the list with Unix line ends",
        "a.o\nb.o": "the name has line ends in it: without -0, a list has one name a line",
    }
    for name, hint in hints.items():
        with pytest.raises(ScpatchError) as caught, open_input(tmp_path / name):
            pass
        assert caught.value.hint == hint, name


def test_what_cannot_be_written(tmp_path: Path) -> None:
    done = run(
        *(sys.executable, "-m", "scpatch", "rewrite", FIXTURES / "calls-gcc.o"),
        *("-o", tmp_path / "none/below/x.o"),
        check=False,
    )
    assert "x.o: cannot write: No such file or directory [SCP110]\nhint: there is no folder " in (
        done.stderr
    )
    assert done.stderr.endswith(f"{tmp_path}/none; make it first\n")
    with pytest.raises(ScpatchError) as caught:
        resolve(tmp_path)
    assert caught.value.hint == f"name a file in it, such as {tmp_path}/x.o"


def test_the_packed_image_that_a_loader_starts() -> None:
    """`Image.gz` has no ELF file in it; a packed text is still a text."""
    assert refusal(b"\x01\x02\xff", "Image.gz").hint.startswith("there is no object in it; the ker")
    assert refusal(b"\x01\x02\xff", "Image").hint == ""
    assert refusal(b"int x;", "x.ko.xz").hint.startswith("it is a text")
