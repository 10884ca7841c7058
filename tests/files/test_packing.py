"""Compressed files are read and written as the tools do it; signatures are measured."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.files import packing
from scpatch.files.inputs import open_input
from scpatch.files.packing import Packing, pack, packing_of, signature_size, unpack
from tests.tools import FIXTURES

CONTENT = (FIXTURES / "module.ko").read_bytes()
SIGNED = (FIXTURES / "module-signed.ko").read_bytes()
TOOLS = {Packing.GZIP: "gzip", Packing.XZ: "xz", Packing.ZSTD: "zstd", Packing.BZIP2: "bzip2"}


def by_tool(kind: Packing, *options: str, content: bytes) -> bytes:
    command = [TOOLS[kind], "-c", *options]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


@pytest.mark.parametrize("kind", Packing)
def test_the_tools_and_scpatch_read_each_other(kind: Packing) -> None:
    packed = memoryview(by_tool(kind, content=CONTENT))
    assert packing_of(packed) is kind
    assert unpack(packed, kind, "x.ko") == CONTENT
    assert by_tool(kind, "-d", content=pack(CONTENT, kind, "x.ko")) == CONTENT
    assert pack(CONTENT, kind, "x.ko") == pack(CONTENT, kind, "y.ko")


def test_xz_is_what_the_kernel_unpacks() -> None:
    """lib/xz knows no check but CRC32."""
    packed = pack(CONTENT, Packing.XZ, "x.ko")
    stream = lzma.LZMADecompressor()
    stream.decompress(packed)
    assert stream.check == lzma.CHECK_CRC32


@pytest.mark.parametrize("kind", Packing)
def test_damage_is_named(kind: Packing) -> None:
    good = pack(CONTENT, kind, "x.ko")
    for data, words in (
        (good[: len(good) // 2], "cut off"),
        (good + b"more", "something follows"),
        (kind.value + b"\xff" * 40, "damaged"),
    ):
        with pytest.raises(ScpatchError) as caught:
            unpack(memoryview(data), kind, "x.ko")
        assert caught.value.code == "SCP106"
        assert caught.value.file == "x.ko"
        assert TOOLS[kind] in caught.value.message
        assert words in caught.value.message, (data[:10], caught.value.message)


@pytest.mark.parametrize("kind", Packing)
def test_several_streams_in_a_file_are_one_content(kind: Packing) -> None:
    """`cat`, pigz, pbzip2 and pzstd make such files, and kmod reads them."""
    parts = [CONTENT[:1000], b"", CONTENT[1000:]]
    packed = b"".join(by_tool(kind, content=part) for part in parts)
    assert unpack(memoryview(packed), kind, "x.ko") == CONTENT
    for data, words in ((packed + bytes(8), "something follows"), (packed[:-5], "cut off")):
        with pytest.raises(ScpatchError, match=words):
            unpack(memoryview(data), kind, "x.ko")
    with pytest.raises(ScpatchError, match="made of more than 256 streams"):
        unpack(memoryview(pack(b"", kind, "x.ko") * 300), kind, "x.ko")


def test_the_frames_of_pzstd() -> None:
    """A skippable frame before each tells the size of that."""
    frame = pack(CONTENT, Packing.ZSTD, "x.ko")
    head = b"\x50\x2a\x4d\x18\4\0\0\0" + len(frame).to_bytes(4, "little")
    packed = memoryview(head + frame + head)
    assert packing_of(packed) is Packing.ZSTD
    assert unpack(packed, Packing.ZSTD, "x.ko") == CONTENT


@pytest.mark.parametrize("kind", Packing)
def test_a_small_file_with_a_huge_content(kind: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "HARMLESS", 1 << 20)
    fits, huge = (pack(bytes(size), kind, "x.ko") for size in (1 << 20, (1 << 20) + 1))
    assert len(unpack(memoryview(fits), kind, "x.ko")) == 1 << 20
    with pytest.raises(ScpatchError, match="more than 1 MiB"):
        unpack(memoryview(huge), kind, "x.ko")


_USE = """
import resource, sys
from scpatch.errors import ScpatchError
from scpatch.files.inputs import open_input
from pathlib import Path
try:
    with open_input(Path(sys.argv[1]), unpacked=True):
        pass
except ScpatchError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, error.message)
"""


@pytest.mark.parametrize("kind", Packing)
def test_a_small_file_takes_little_memory(kind: Packing, tmp_path: Path) -> None:
    """A megabyte of compressed zeros is gigabytes, and its refusal cost two of memory once."""
    path = tmp_path / "bomb.ko"
    with (
        path.open("wb") as out,
        subprocess.Popen([TOOLS[kind], "-1", "-c"], stdin=subprocess.PIPE, stdout=out) as tool,
    ):
        assert tool.stdin is not None
        for _ in range(100):
            tool.stdin.write(bytes(1 << 20))
    run = subprocess.run([sys.executable, "-c", _USE, path], capture_output=True, text=True)
    memory, message = run.stdout.split(maxsplit=1)
    assert re.search(r"its content has more than \d+ MiB", message), run
    assert int(memory) < 150, message


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = memoryview(pack(CONTENT, Packing.ZSTD, "x.ko"))
    for name in ("backports", "backports.zstd", "compression", "compression.zstd"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ScpatchError, match="there is no Python module") as caught:
        unpack(data, Packing.ZSTD, "x.ko")
    assert caught.value.code == "SCP106"


@pytest.mark.parametrize("pack_it", [gzip.compress, lzma.compress, bz2.compress])
def test_an_input_is_unpacked(tmp_path: Path, pack_it: object) -> None:
    path = tmp_path / "x.ko"
    path.write_bytes(pack_it(CONTENT))  # type: ignore[operator]
    for source in (path, path.read_bytes()):
        with open_input(source, unpacked=True) as file:
            assert bytes(file.data) == CONTENT
            assert file.packed is not None
            assert bytes(file.packed) == path.read_bytes()
        with open_input(source) as file:
            assert bytes(file.data) == path.read_bytes()


def test_a_signature_is_measured() -> None:
    assert signature_size(memoryview(CONTENT), "x.ko") == 0
    size = signature_size(memoryview(SIGNED), "x.ko")
    assert SIGNED[:-size] == CONTENT


MAGIC = b"~Module signature appended~\n"


@pytest.mark.parametrize(
    "end",
    [
        MAGIC,
        bytes(12) + MAGIC,
        bytes([0, 0, 2, 0, 0, 0, 0, 0, 0xFF, 0, 0, 0]) + MAGIC,
        bytes([1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 9]) + MAGIC,
    ],
)
def test_a_signature_of_an_unknown_form(end: bytes) -> None:
    with pytest.raises(ScpatchError, match="unknown form") as caught:
        signature_size(memoryview(CONTENT + end), "x.ko")
    assert caught.value.code == "SCP105"
