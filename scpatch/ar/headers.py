"""Reads the headers of `ar` archives, regular and thin.

An archive is a magic number and then, for each member, a header of 60 characters (`struct ar_hdr`,
include/aout/ar.h in binutils) and the content, padded to an even size. GNU ar keeps long names in a
member `//` and the symbol table in `/` (32-bit offsets) or `/SYM64/`; BSD ar puts a long name
before the content (`#1/LENGTH`) and the symbol table into `__.SYMDEF`. A thin archive holds only
the tables; its members are files that it names, relative to its directory. If a member of a regular
archive was added to a thin one, its name is `/NAME:OFFSET` (bfd/archive.c).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from scpatch.errors import ScpatchError

MAGIC = b"!<arch>\n"
THIN_MAGIC = b"!<thin>\n"
HEADER_SIZE = 60
NAME_SIZE = 16
SIZE_FIELD = 48
"""Offset of ar_size in a header: ten decimal digits."""
TERMINATOR = b"`\n"
_LONGEST_NAME = 4096
"""PATH_MAX: no file has a longer name."""
_LONG_NAME = re.compile(rb"/([0-9]+)(?::([0-9]+))?(?: |$)")
"""After a blank anything may follow: GNU ar leaves the last slash of a name with 15 characters."""


class EntryKind(Enum):
    MEMBER = "member"
    NAMES = "//"
    SYMBOLS = "/"
    SYMBOLS64 = "/SYM64/"
    RANLIB = "__.SYMDEF"
    RANLIB64 = "__.SYMDEF_64"


_KINDS = {
    b"//": EntryKind.NAMES,
    b"/": EntryKind.SYMBOLS,
    b"/SYM64/": EntryKind.SYMBOLS64,
    b"__.SYMDEF": EntryKind.RANLIB,
    b"__.SYMDEF SORTED": EntryKind.RANLIB,
    b"__.SYMDEF_64": EntryKind.RANLIB64,
    b"__.SYMDEF_64 SORTED": EntryKind.RANLIB64,
}


class Member(NamedTuple):
    """A header and what it describes. Offsets are file offsets, sizes are in bytes."""

    kind: EntryKind
    name: str
    """The file's name; in a thin archive its path, relative to the archive's directory."""
    label: str
    """`name`; for the second member of that name, `NAME@2`."""
    header: int
    content: int
    """Where the content starts; without meaning for the members of a thin archive."""
    size: int
    """The content's size, without a BSD name."""
    origin: int | None = None
    """In a thin archive: the member's header in the regular archive `name`."""

    @property
    def prefix(self) -> int:
        """Bytes of a BSD name between the header and the content."""
        return self.content - self.header - HEADER_SIZE


class Archive(NamedTuple):
    """The headers of an archive in file order."""

    name: str
    """As messages show it."""
    data: memoryview
    thin: bool
    entries: tuple[Member, ...]

    @property
    def members(self) -> Iterator[Member]:
        """The entries that are no tables."""
        return (entry for entry in self.entries if entry.kind is EntryKind.MEMBER)

    def content(self, member: Member) -> memoryview:
        """What a member of a regular archive, or a table, holds."""
        return self.data[member.content : member.content + member.size]


def damaged(archive: str, message: str) -> ScpatchError:
    """The error for an archive whose headers contradict its size or each other."""
    return ScpatchError("SCP108", message, file=archive)


def is_regular(data: memoryview) -> bool:
    """Whether a file is an archive that holds its members."""
    return bytes(data[: len(MAGIC)]) == MAGIC


def read_archive(data: memoryview, name: str) -> Archive:
    """The archive in `data`, which starts with one of the two magic numbers. Raises SCP108."""
    thin = bytes(data[: len(THIN_MAGIC)]) == THIN_MAGIC
    return Archive(name, data, thin, tuple(_Reader(data, name, thin).entries()))


class _Reader:
    """Walks the headers; remembers the names that it has seen."""

    def __init__(self, data: memoryview, name: str, thin: bool) -> None:
        self._data = data
        self._name = name
        self._thin = thin
        self._long_names: bytes | None = None
        self._seen: Counter[str] = Counter()
        self._tables: set[EntryKind] = set()

    def entries(self) -> Iterator[Member]:
        offset = len(MAGIC)
        while offset < len(self._data):
            entry = self._entry(offset)
            yield entry
            offset = entry.content
            if entry.kind is not EntryKind.MEMBER or not self._thin:
                offset = even(offset + entry.size)

    def _entry(self, offset: int) -> Member:
        header = bytes(self._data[offset : offset + HEADER_SIZE])
        if len(header) < HEADER_SIZE:
            raise self._damaged(f"the file ends inside the member header at {offset:#x}")
        if header[58:] != TERMINATOR:
            raise self._damaged(f"the member header at {offset:#x} lacks its terminator")
        digits = header[SIZE_FIELD:58].rstrip(b" ")
        if not digits.isdigit():
            raise self._damaged(f"the member header at {offset:#x} has the size {_text(digits)}")
        raw, size, content = header[:NAME_SIZE].rstrip(b" "), int(digits), offset + HEADER_SIZE
        kind = _KINDS.get(raw, EntryKind.MEMBER)
        outside = self._thin and kind is EntryKind.MEMBER
        if not outside and content + size > len(self._data):
            raise self._damaged(
                f"the member at {offset:#x} reaches to {content + size:#x}, "
                f"the file ends at {len(self._data):#x}"
            )
        if kind is not EntryKind.MEMBER:
            return self._table(kind, offset, size, raw)
        if raw.startswith(b"#1/"):
            return self._bsd(raw, offset, size)
        name, origin = self._member_name(raw, offset)
        if outside and (not name or b"\0" in name):
            # It is a path, and no file has such a path.
            raise self._damaged(f"the member header at {offset:#x} names the file {_text(name)}")
        return self._member(name, offset, content, size, origin)

    def _member(
        self, raw: bytes, offset: int, content: int, size: int, origin: int | None = None
    ) -> Member:
        name = os.fsdecode(raw)
        shown = name if origin is None else f"{name}:{origin}"
        self._seen[shown] += 1
        label = shown if self._seen[shown] == 1 else f"{shown}@{self._seen[shown]}"
        return Member(EntryKind.MEMBER, name, label, offset, content, size, origin)

    def _table(
        self, kind: EntryKind, offset: int, size: int, raw: bytes, prefix: int = 0
    ) -> Member:
        content = offset + HEADER_SIZE + prefix
        if kind in self._tables:
            raise self._damaged(f"there is a second member {_text(raw)} at {offset:#x}")
        self._tables.add(kind)
        if kind is EntryKind.NAMES:
            self._long_names = bytes(self._data[content : content + size])
        name = raw.decode("ascii")
        return Member(kind, name, name, offset, content, size)

    def _bsd(self, raw: bytes, offset: int, size: int) -> Member:
        """A member with its name before its content, padded with NUL."""
        digits = raw[3:]
        if self._thin or not digits.isdigit() or int(digits) > min(size, _LONGEST_NAME):
            raise self._damaged(f"the member header at {offset:#x} has the name {_text(raw)}")
        prefix = int(digits)
        content = offset + HEADER_SIZE + prefix
        name = bytes(self._data[content - prefix : content]).rstrip(b"\0")
        kind = _KINDS.get(name)
        if kind in (EntryKind.RANLIB, EntryKind.RANLIB64):
            return self._table(kind, offset, size - prefix, name, prefix)
        return self._member(name, offset, content, size - prefix)

    def _member_name(self, raw: bytes, offset: int) -> tuple[bytes, int | None]:
        """The name that a header's name field refers to, and the offset after its colon."""
        if not raw.startswith(b"/"):
            return raw.removesuffix(b"/"), None
        match = _LONG_NAME.match(raw)
        if match is None or (match[2] and not self._thin):
            raise self._damaged(f"the member header at {offset:#x} has the name {_text(raw)}")
        table, start = self._long_names or b"", int(match[1])
        if start >= len(table):
            raise self._damaged(
                f"the member header at {offset:#x} has its name at {start:#x} of the long names, "
                f"which end at {len(table):#x}"
            )
        end = table.find(b"\n", start, start + _LONGEST_NAME + 2)
        if end < 0:
            raise self._damaged(f"the long name at {start:#x} has no end")
        return table[start:end].removesuffix(b"/"), int(match[2]) if match[2] else None

    def _damaged(self, message: str) -> ScpatchError:
        return damaged(self._name, message)


def even(offset: int) -> int:
    return offset + offset % 2


def _text(raw: bytes) -> str:
    """Bytes from a header as a message shows them."""
    return repr(raw.decode("ascii", "backslashreplace"))
