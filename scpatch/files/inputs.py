"""Opens input files and says what they are; refuses what is not a ppc64 ELFv2 object."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.encoding import encoding_of
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError, damaged
from scpatch.files.packing import packing_of, signature_size, unpack
from scpatch.ppc64 import variant

ARCHIVE = b"!<arch>\n"
THIN_ARCHIVE = b"!<thin>\n"
_BITCODE = (b"BC\xc0\xde", b"\xde\xc0\x17\x0b")
"""LLVM bitcode, as it is and in its wrapper (LLVM, docs/BitCodeFormat.rst)."""

_GCC_LTO = ".gnu.lto_"

_MACHINES = {
    3: "x86 (i386)",
    8: "MIPS",
    20: "32-bit PowerPC",
    22: "s390",
    40: "ARM",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
}


_MAPPED = 1 << 24
"""Files of at least this size in bytes are mapped, not read: most of a vmlinux.o with DWARF goes
unused. If another program truncates a mapped file, access to it ends the process by SIGBUS; that
cannot happen to what was read."""


IN_MEMORY: Final = Path("<bytes>")
"""The path of a source that is bytes, as messages show it."""


class Stdin(bytes):
    """The content of stdin, whose path is `STDIN`."""


STDIN: Final = Path("<stdin>")


class Input(NamedTuple):
    """An open file, read or mapped; or the content of one."""

    path: Path
    descriptor: int
    """-1 for bytes."""
    data: memoryview
    """The content; that of a compressed file can be the unpacked one."""
    identity: tuple[int, ...]
    """The file's identity before anything of it was read; empty for bytes."""
    packed: memoryview | None = None
    """The content as it is in the file, if `data` is the unpacked one."""


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Inode, size, time of the last change: a file that changes gets another identity. Without the
    device, whose number is another one on each machine that mounts it."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def name_of(source: Path | bytes) -> Path:
    """The path of a source, or what messages call its content."""
    if isinstance(source, bytes):
        return STDIN if isinstance(source, Stdin) else IN_MEMORY
    return source


@contextlib.contextmanager
def open_input(path: Path | bytes, *, unpacked: bool = False) -> Iterator[Input]:
    """Opens a regular file and reads or maps it; takes the content of one as it is. If `unpacked`,
    unpacks a compressed file.

    Raises SCP109 if that cannot be done, and SCP106 for a compressed file that cannot be unpacked.
    """
    if isinstance(path, bytes):
        if not path:
            raise _empty(name_of(path))
        source = Input(name_of(path), -1, memoryview(path), ())
        yield _unpacked(source) if unpacked else source
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            what, advice = "not a regular file", "`-` reads standard input, also from a pipe"
            if stat.S_ISDIR(status.st_mode):
                what, advice = "a directory", "name the files in it"
            raise ScpatchError("SCP109", f"cannot read: it is {what}", file=str(path), hint=advice)
        if status.st_size == 0:
            raise _empty(path)
        try:
            data = _content(descriptor, status.st_size)
        except (OSError, ValueError) as error:
            raise cannot_read(path, error) from error
        source = Input(path, descriptor, data, identity(status))
        yield _unpacked(source) if unpacked else source
    finally:
        os.close(descriptor)


def _unpacked(source: Input) -> Input:
    packing = packing_of(source.data)
    if packing is None:
        return source
    data = unpack(source.data, packing, str(source.path))
    return source._replace(data=data, packed=source.data)


def _content(descriptor: int, size: int) -> memoryview:
    if size >= _MAPPED:
        import mmap

        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        return memoryview(file.readall())


def cannot_read(path: Path, error: Exception) -> ScpatchError:
    """The error for a file that cannot be opened or read: SCP109."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    from scpatch.files import remedies

    hint = remedies.cannot_read(path, error)
    return ScpatchError("SCP109", f"cannot read: {reason}", file=str(path), hint=hint)


def _empty(path: Path) -> ScpatchError:
    from scpatch.files import remedies

    hint = remedies.EMPTY
    return ScpatchError("SCP101", "the file is empty", file=str(path), hint=hint)


def is_archive(data: memoryview) -> bool:
    return bytes(data[:8]) in (ARCHIVE, THIN_ARCHIVE)


def is_object(data: memoryview, name: str) -> bool:
    """Whether a member of an archive, or what a linker gets, is an ELF file, and not a text or
    nothing. Raises SCP111 for bitcode, and SCP119 for an archive."""
    if is_archive(data):
        raise ScpatchError("SCP119", "an archive inside an archive", file=name)
    _check_bitcode(data, name)
    return bytes(data[:4]) == b"\x7fELF"


def check_code(data: memoryview, name: str) -> None:
    """Raises SCP111 for what has no machine code yet, as `read_object` does, and nothing for any
    other file: two that are the same are so, whatever they are."""
    _check_bitcode(data, name)
    slim = False
    if re.search(rb"__gnu_lto_slim", data) is not None:
        with contextlib.suppress(ScpatchError):
            slim = _is_slim(ElfFile(data, name))
    if slim:
        raise _slim(name)


def _slim(name: str) -> ScpatchError:
    return ScpatchError("SCP111", "GCC's intermediate code, no machine code yet (-flto)", file=name)


def _check_bitcode(data: memoryview, name: str) -> None:
    if bytes(data[:4]) in _BITCODE:
        raise ScpatchError("SCP111", "LLVM bitcode, no machine code yet", file=name)


def is_linked(data: memoryview) -> bool:
    """Whether the file is a linked image by its e_type, if it is an ELF file at all."""
    kind = encoding_of(data).number(data[16:18])
    return bytes(data[:4]) == b"\x7fELF" and kind in (c.ET_EXEC, c.ET_DYN)


def read_object(data: memoryview, name: str, *, linked: bool = False) -> ElfFile:
    """The object in `data`, without a module signature; with `linked`, also a `LinkedImage`.

    Raises ScpatchError SCP101 to SCP105 and SCP107 for anything else.
    """
    _check_magic(data, name)
    data = data[: len(data) - signature_size(data, name)]
    kind = _check_identity(data, name, (c.ET_EXEC, c.ET_DYN) if linked else ())
    if kind == c.ET_REL:
        elf = ElfFile(data, name)
        if elf.header.e_phnum:
            # They would have to follow what moves, and no linker or loader looks at them.
            raise ScpatchError("SCP117", "an object with program headers", file=name)
        if _is_slim(elf):
            raise _slim(name)
        elf.check_code()
    else:
        from scpatch.elf.image import LinkedImage

        elf = LinkedImage(data, name)
    if elf.header.e_flags & variant.EF_PPC64_ABI == 0 and elf.sections_named(".opd"):
        raise _elfv1(name)
    return elf


def _check_magic(data: memoryview, name: str) -> None:
    if bytes(data[:4]) == b"\x7fELF":
        return
    _check_bitcode(data, name)
    from scpatch.files import remedies

    hint = remedies.not_elf(data, name)
    if bytes(data[:2]) == b"MZ":  # a kernel's image elsewhere; powerpc has no EFI
        raise ScpatchError("SCP102", "a PE image (EFI), not for ppc64", file=name, hint=hint)
    raise ScpatchError("SCP101", "not an ELF file", file=name, hint=hint)


def _check_identity(data: memoryview, name: str, others: tuple[int, ...]) -> int:
    """e_ident, e_machine and the ABI version; returns e_type: ET_REL or one of `others`."""
    if len(data) < c.EHDR_SIZE:
        raise damaged(name, f"the file ends inside the ELF header ({len(data)} bytes)")
    encoding = encoding_of(data)
    kind, machine = encoding.number(data[16:18]), encoding.number(data[18:20])
    if data[4] not in (1, 2) or data[5] not in (1, 2):
        raise damaged(name, f"EI_CLASS is {data[4]}, EI_DATA is {data[5]}")
    if machine != variant.EM_PPC64 or data[4] != 2:
        known = _MACHINES.get(machine, f"e_machine {machine}")
        from scpatch.files import remedies

        what, hint = f"an object for {known}, not for ppc64", remedies.other_machine(machine)
        raise ScpatchError("SCP102", what, file=name, hint=hint)
    if encoding.number(data[48:52]) & variant.EF_PPC64_ABI == 1:
        raise _elfv1(name)
    if kind not in (c.ET_REL, *others):
        what = {c.ET_EXEC: "an executable", c.ET_DYN: "a linked image (ET_DYN)"}.get(
            kind, "a core dump" if kind == c.ET_CORE else f"a file of type {kind}"
        )
        from scpatch.files import remedies

        hint = remedies.not_relocatable(kind)
        raise ScpatchError("SCP104", f"{what}, not a relocatable object", file=name, hint=hint)
    return kind


def _elfv1(name: str) -> ScpatchError:
    return ScpatchError("SCP103", "an object of the ELFv1 ABI (function descriptors)", file=name)


def has_intermediate(elf: ElfFile) -> bool:
    """Whether an object with machine code also holds what a link with LTO would compile in its
    place (-ffat-lto-objects of gcc and clang)."""
    return bool(elf.sections_named(_GCC_LTO, prefix=True) or elf.sections_named(".llvm.lto"))


def _is_slim(elf: ElfFile) -> bool:
    """Whether GCC has left the machine code to the link, for the object or for a part of it that
    `ld -r` put in: struct lto_section says so (gcc/lto-streamer.h), and a common symbol."""
    if not elf.sections_named(_GCC_LTO, prefix=True):
        return False
    infos = elf.sections_named(_GCC_LTO + ".lto", prefix=True)
    if any(bytes(elf.content(index)[4:5]) == b"\1" for index in infos):
        return True
    symbols = elf.symbols
    return symbols is not None and any(
        symbols.name(index) == "__gnu_lto_slim" for index in symbols.with_prefix(b"__gnu_lto_slim")
    )
