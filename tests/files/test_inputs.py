"""What is no ppc64le ELFv2 object is refused for what it is, in little memory and time."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from tests.elfwriter import EM_386, EM_PPC, ET_DYN, ET_EXEC, ByteOrder, Elf, Section, build
from tests.tools import FIXTURES, ROOT, in_both, run, scan_file

OBJECT = (FIXTURES / "sites.o").read_bytes()


def refused(path: Path) -> ScpatchError:
    with pytest.raises(ScpatchError) as caught:
        scan_file(path)
    assert caught.value.file == str(path)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        *((name, "SCP103", "ELFv1") for name in in_both("elfv1.o", "elfv1-unmarked.o")),
        ("ppc64-be.o", "SCP103", "ELFv1"),
        ("ppc32-be.o", "SCP102", "32-bit PowerPC"),
        ("x86_64.o", "SCP102", "x86-64"),
        *((name, "SCP104", "linked image") for name in in_both("linked.so")),
        ("note.txt", "SCP101", "not an ELF file"),
    ],
)
def test_prebuilt(name: str, code: str, words: str) -> None:
    error = refused(FIXTURES / name)
    assert error.code == code
    assert words in error.message


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "SCP101", "empty"),
        (b"\n", "SCP101", "not an ELF file"),
        (b"\x7fELF", "SCP107", "ends inside the ELF header"),
        (OBJECT[:63], "SCP107", "ends inside the ELF header"),
        (gzip.compress(OBJECT)[:-9], "SCP106", "gzip"),
        (lzma.compress(b""), "SCP101", "not an ELF file"),
        (bz2.compress(OBJECT[:63]), "SCP107", "ends inside the ELF header"),
        (b"\x28\xb5\x2f\xfd" + OBJECT, "SCP106", "zstd"),
        (b"BC\xc0\xde" + bytes(100), "SCP111", "bitcode"),
        (build(Elf(type=ET_EXEC)), "SCP104", "executable"),
        (build(Elf(type=ET_DYN)), "SCP104", "linked image"),
        (build(Elf(type=4)), "SCP104", "core dump"),
        (build(Elf(type=0)), "SCP104", "type 0"),
        (build(Elf(byteorder="big", flags=1)), "SCP103", "ELFv1"),
        (build(Elf(byteorder="big", flags=0, sections=[Section(name=".opd")])), "SCP103", "ELFv1"),
        (build(Elf(byteorder="big", machine=EM_PPC, bits=32)), "SCP102", "32-bit PowerPC"),
        (build(Elf(machine=EM_386, bits=32)), "SCP102", "i386"),
        (build(Elf(machine=243)), "SCP102", "RISC-V"),
        (build(Elf(machine=0xBEEF)), "SCP102", "48879"),
        (build(Elf(flags=1)), "SCP103", "ELFv1"),
        (build(Elf(flags=0, sections=[Section(name=".opd")])), "SCP103", "ELFv1"),
        (build(Elf(trailer=b"~Module signature appended~\n")), "SCP105", "unknown form"),
        (build(Elf(header={"e_shoff": 0})), "SCP107", "no section header table"),
        (build(Elf(header={"e_shentsize": 40})), "SCP107", "e_shentsize"),
        (build(Elf(ident=b"\x7fELF\3\1\1".ljust(16, b"\0"))), "SCP107", "EI_CLASS"),
        (build(Elf(ident=b"\x7fELF\2\7\1".ljust(16, b"\0"))), "SCP107", "EI_DATA"),
    ],
)
def test_made_up(tmp_path: Path, data: bytes, code: str, words: str) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(data)
    error = refused(path)
    assert error.code == code
    assert words in error.message


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_an_unmarked_object_is_taken(tmp_path: Path, byteorder: ByteOrder) -> None:
    """e_flags 0 says nothing about the ABI; without function descriptors it is ELFv2. GNU as writes
    0 for assembly of a big-endian kernel, and linkers take it with objects of either ABI."""
    path = tmp_path / "x.o"
    path.write_bytes(build(Elf(flags=0, byteorder=byteorder)))
    assert scan_file(path).sites == ()


@pytest.mark.parametrize("kind", ["directory", "fifo", "/dev/null", "/dev/zero", "missing"])
def test_no_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.o" if not kind.startswith("/") else Path(kind)
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    assert refused(path).code == "SCP109"


def test_a_name_with_a_nul() -> None:
    assert refused(Path("x\0.o")).code == "SCP109"


def test_a_file_that_cannot_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmap

    def fails(*arguments: object, **more: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    path = tmp_path / "x.o"
    path.write_bytes(OBJECT)
    os.truncate(path, 1 << 24)
    monkeypatch.setattr(mmap, "mmap", fails)
    assert "Cannot allocate memory" in refused(path).message


def test_descriptors_are_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("sites.o", "note.txt", "elfv1.o", "x86_64.o") * 5:
        with contextlib.suppress(ScpatchError):
            scan_file(FIXTURES / name)
    assert len(os.listdir("/proc/self/fd")) == before


_CAPPED = """
import os, resource, sys
os._exit = sys.exit
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
sys.argv = ["scpatch", "rewrite", "--keep-going", *sys.argv[1:]]
from pathlib import Path
from scpatch.__main__ import main
try:
    main()
finally:
    # Not ru_maxrss, which starts with what the parent had.
    print(*[line for line in Path("/proc/self/status").open() if line.startswith("VmHWM")])
"""


def capped(*arguments: str | Path, extra: int = 0) -> subprocess.CompletedProcess[str]:
    """`scpatch rewrite` in 160 MiB of address space, beside what the file itself takes."""
    limit = (160 << 20) + extra
    script = _CAPPED.format(limit=limit)
    return run(sys.executable, "-c", script, *arguments, cwd=ROOT, check=False)


HUGE = {
    "many_sections": {"e_shnum": 0xFEFF},
    "counted_elsewhere": {"e_shnum": 0},
    "far_headers": {"e_shoff": 1 << 62},
    "names_elsewhere": {"e_shstrndx": 0xFFFF},
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_numbers_in_the_header(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.o"
    data = bytearray(OBJECT)
    for field, value in HUGE[name].items():
        offset, size = {"e_shnum": (60, 2), "e_shoff": (40, 8), "e_shstrndx": (62, 2)}[field]
        data[offset : offset + size] = value.to_bytes(size, "little")
    path.write_bytes(data)
    done = capped(path)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == data or done.returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.o"]


def test_much_behind_the_object(tmp_path: Path) -> None:
    """A hundred megabytes of nothing behind an object never enter the process's own memory."""
    path = tmp_path / "x.o"
    path.write_bytes(OBJECT)
    os.truncate(path, 100 << 20)
    done = capped(path, extra=100 << 20)
    assert done.returncode == 0, done.stderr
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert int(kilobytes) < 100 << 10


def test_cut_every_four_kilobytes(tmp_path: Path) -> None:
    """A big object, cut anywhere: never anything but a message, and no damage."""
    from tests.real.objects import libc_object

    whole = libc_object(tmp_path).read_bytes()
    path = tmp_path / "cut.o"
    for size in range(4096, len(whole), 4096):
        path.write_bytes(whole[:size])
        assert refused(path).code == "SCP107"
