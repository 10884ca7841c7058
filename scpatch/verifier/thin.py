"""Finds the files that hold the members of a thin archive.

If a regular archive was added to a thin one, `ar t` prints its members without that archive's name,
like files of the current directory. So the names are read here, as bfd/archive.c of binutils has
them. `/N` is the name at N in the table `//`, relative to the directory of the archive. `/N:O` is
the member whose header is at O in the archive of that name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from scpatch.errors import ScpatchError
from scpatch.verifier.objects.read import ARCHIVES

_REGULAR = ARCHIVES[0]
_HEADER = 60
_TABLES = (b"/", b"//", b"/SYM64/")
_LONG = re.compile(rb"/([0-9]+)(?::([0-9]+))?(?: +/)?")
"""GNU ar leaves a slash at the end of the field if the path has exactly 15 bytes."""


def member_files(archive: Path, listed: Sequence[str], folder: Path) -> list[Path]:
    """The file of each member, in order. Members of a regular archive are copied to `folder`, each
    into a directory of its own, under the names that `ar` has `listed`.

    Raises ScpatchError: SCP109 for a member without a file, SCP302 if `ar` lists others.
    """
    members = list(_members(archive))
    if len(members) != len(listed):
        raise _unclear(archive, f"ar lists {len(listed)} members, it has {len(members)}")
    paths: list[Path] = []
    for number, (name, origin, size) in enumerate(members):
        path = _file_of(archive, name)
        if origin is not None:
            content = _content(archive, path, origin, size)
            path = folder / str(number) / os.path.basename(listed[number])
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        paths.append(path)
    return paths


def check_files(archive: Path) -> None:
    """That each member has a file, which `ar` says of the archive. Raises SCP109, and SCP302 for a
    damaged archive."""
    for name, _, _ in _members(archive):
        _file_of(archive, name)


def _file_of(archive: Path, name: bytes) -> Path:
    path = archive.parent / os.fsdecode(name)
    if not os.path.isfile(path):  # false also for a name that no file can have
        raise ScpatchError(
            "SCP109",
            f"its member {path} is no file",
            file=str(archive),
            hint="a thin archive names its members by path: put the file back, or make the archive "
            "again with `ar`",
        )
    return path


def _members(archive: Path) -> Iterator[tuple[bytes, int | None, int]]:
    """Of each member the file's name, the offset in it if the file is an archive, and the size."""
    data, names, at = archive.read_bytes(), b"", 8
    while at < len(data):
        field, size = _header(archive, data, at)
        at += _HEADER
        if field in _TABLES:
            names = data[at : at + size] if field == b"//" else names
            at += size + size % 2
            continue
        long = _LONG.fullmatch(field)
        if long is None:
            yield field.removesuffix(b"/"), None, size
            continue
        start = int(long[1])
        end = names.find(b"/\n", start)
        if end <= start:
            raise _unclear(archive, f"a member's name is not among the long names, at {start}")
        yield names[start:end], None if long[2] is None else int(long[2]), size


def _header(archive: Path, data: bytes, at: int) -> tuple[bytes, int]:
    """The name field and the size of the header at a file offset."""
    header = data[at : at + _HEADER]
    digits = header[48:58].rstrip()
    if header[58:] != b"`\n" or not digits.isdigit():
        raise _unclear(archive, f"there is no member's header at {at:#x}")
    return header[:16].rstrip(), int(digits)


def _content(archive: Path, path: Path, origin: int, size: int) -> bytes:
    """The content of the member at `origin` of the regular archive `path`."""
    data = path.read_bytes()
    if not data.startswith(_REGULAR):
        raise _unclear(archive, f"{path} is no regular archive")
    field, whole = _header(path, data, origin)
    prefix = int(field[3:]) if re.fullmatch(rb"#1/[0-9]{1,4}", field) else 0
    content = data[origin + _HEADER + prefix : origin + _HEADER + whole]
    if len(content) != size:
        raise _unclear(archive, f"its member at {origin:#x} of {path} has another size")
    return content


def _unclear(archive: Path, what: str) -> ScpatchError:
    return ScpatchError("SCP302", what, file=str(archive))
