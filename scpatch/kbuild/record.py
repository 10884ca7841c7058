"""What the copies of an input were made from: a JSON file beside them.

Files are told from changed ones by device, inode, size and time. A record that is missing, cannot
be read or was written with other settings says nothing, and everything is made again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

try:
    # What hashlib gives as well, but that loads OpenSSL, which takes longer than all the rest.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

Identities = dict[str, list[int]]
"""What tells a file from a changed one, by its path."""


class Known(NamedTuple):
    """What a run finds out about an input, for the next one."""

    sources: Identities
    """The files that the input is made of: itself and, of a thin archive, its members."""
    copies: Identities
    """The files that were made; none where nothing had to be rewritten."""
    members: dict[str, str]
    """The copy of a thin archive's member, by the member's path; empty where it needs none. Members
    with refused call sites are left out, so that they are looked at again."""
    refused: bool
    """Whether a call site of the input was refused."""

    def holds(self) -> bool:
        """Whether the sources and what was made from them are as they were."""
        files = {**self.sources, **self.copies}
        return bool(self.sources) and all(identity(path) == one for path, one in files.items())


NOTHING = Known({}, {}, {}, False)


class Record(NamedTuple):
    path: Path
    key: str
    """What the copies depend on beside their sources."""

    def read(self) -> Known:
        """What is known: NOTHING where the record is of no use."""
        try:
            found = json.loads(self.path.read_bytes())
            if found["key"] != self.key:
                return NOTHING
            members = {path: os.fspath(copy) for path, copy in found["members"].items()}
            refused = found["refused"] is not False
            return Known(dict(found["sources"]), dict(found["copies"]), members, refused)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return NOTHING

    def forget(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def keep(self, known: Known) -> None:
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.write_text(json.dumps({"key": self.key, **known._asdict()}))
        temporary.replace(self.path)


def digest(data: bytes) -> str:
    """Twelve hexadecimal digits."""
    return blake2b(data, digest_size=6).hexdigest()


def identities(paths: Iterable[str]) -> Identities:
    return {path: identity(path) for path in paths}


def identity(path: str) -> list[int]:
    """Empty where there is no such file; then the plan tells."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
