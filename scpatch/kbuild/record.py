"""JSON files beside the copies of inputs: what they were made from.

Device, inode, size and time tell a file from a changed one. If a record is missing, cannot be read
or has another key, everything is made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

try:
    # hashlib has the same function, but loads OpenSSL, which takes longer than all the rest.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

Identities = dict[str, list[int]]
"""By the path of a file, what tells it from a changed one."""


class Known(NamedTuple):
    """What a run finds out about an input, for the next run."""

    sources: Identities
    """The files that the input consists of: itself and, if it is a thin archive, its members."""
    copies: Identities
    """The files that were made; empty if nothing had to be rewritten."""
    members: dict[str, str]
    """By the path of a thin archive's member, the path of its copy; empty if it needs none. Members
    with refused call sites are left out, so that each build looks at them and reports them."""
    refused: bool
    """Whether a call site of the input was refused."""
    callees: dict[str, list[str]]
    """The `functions.Callees` of each object with call sites: by the path of a thin archive's
    member, by its name for others."""

    def holds(self) -> bool:
        """Whether the sources, and the files made from them, have not changed."""
        files = {**self.sources, **self.copies}
        return bool(self.sources) and all(identity(path) == old for path, old in files.items())


NOTHING = Known({}, {}, {}, False, {})


_Content = TypeVar("_Content", bound=NamedTuple)


class RecordFile(NamedTuple):
    path: Path
    key: str
    """What the content depends on apart from the files that it is about."""

    def read(self, nothing: _Content) -> _Content:
        """The content, of the same type as `nothing`, which it is if the record is of no use."""
        import json  # not for the link of a module

        import msgspec

        kind = type(nothing)
        try:
            content = json.loads(self.path.read_bytes())
            if content["key"] == self.key:
                return msgspec.convert([content[name] for name in kind._fields], kind)
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return nothing

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def write(self, content: NamedTuple) -> None:
        import json

        temporary = self.path.with_name(self.path.name + ".new")
        temporary.write_text(json.dumps({"key": self.key, **content._asdict()}))
        temporary.replace(self.path)


def digest(data: bytes) -> str:
    """Twelve hexadecimal digits that tell the data from any other."""
    return blake2b(data, digest_size=6).hexdigest()


def package_digest(folder: str) -> str:
    """Tells a package from one with other files, or with other contents of files."""
    parts: list[bytes] = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            with open(os.path.join(path, name), "rb", buffering=0) as file:
                content = file.read()
            relative = os.path.relpath(os.path.join(path, name), folder)
            parts += [os.fsencode(relative), b"\0%d\0" % len(content), content]
    return digest(b"".join(parts))


def identities(paths: Iterable[str]) -> Identities:
    return {path: identity(path) for path in paths}


def identity(path: str) -> list[int]:
    """Empty if there is no such file; planning it then raises the error."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
