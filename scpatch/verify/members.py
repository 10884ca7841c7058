"""The members of two archives, side by side, for a proof member by member.

The archives are taken apart by binutils' `ar`, not by scpatch's own reader. A regular archive may
hold several members of one name, so those are extracted by their count (`ar xN COUNT`); the members
of a thin archive are used where they lie.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scpatch.errors import ScpatchError

REGULAR, THIN = b"!<arch>\n", b"!<thin>\n"
_PROGRAMS = ("powerpc64le-linux-gnu-ar", "ar")
_ELF = b"\x7fELF"
_LISTED = re.compile(r"(\S+) (\S+) +(\d+) (\w+ +\d+ \d+:\d+ \d+) (.*)")
"""A line of `ar tv`: mode, owner, size in bytes, date, name."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A member of both archives. `label` is `ARCHIVE(MEMBER)`, counted where names repeat."""

    label: str
    before: Path
    after: Path
    is_object: bool
    """The member was an ELF file; any other must be the same in both archives."""


@dataclass(frozen=True, slots=True)
class Members:
    """The members of two archives, in order, and a sentence for each error outside of objects."""

    pairs: tuple[Pair, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    count: int
    """Which one of its name it is, from 1 on."""
    attributes: tuple[str, str, str]
    """Mode, owner and date as `ar tv` prints them."""


def is_archive(path: Path) -> bool:
    """Whether the file is an archive, regular or thin. Raises OSError."""
    with path.open("rb") as file:
        return file.read(8) in (REGULAR, THIN)


@contextmanager
def members(before: Path, after: Path, ar: str | None = None) -> Iterator[Members]:
    """The members of two archives as files, as long as the context lasts.

    Raises ScpatchError where there is no `ar` (SCP301) or it cannot read an archive (SCP302).
    """
    program = _find(ar)
    with tempfile.TemporaryDirectory(prefix="scpatch-verify-") as name:
        folder = Path(name)
        first = _open(program, before, folder / "before")
        second = _open(program, after, folder / "after")
        yield _pair(after, first, second)


def _find(ar: str | None) -> str:
    for name in (ar,) if ar else _PROGRAMS:
        if path := shutil.which(name):
            return path
    raise ScpatchError(
        "SCP301",
        f"{ar or _PROGRAMS[0]} is needed to compare archives, and is not installed",
        hint="install the Debian package binutils-powerpc64le-linux-gnu",
    )


def _open(ar: str, archive: Path, folder: Path) -> list[tuple[_Member, Path]]:
    """The members of an archive and the file that holds each."""
    listed = _listing(ar, archive)
    with archive.open("rb") as file:
        if file.read(8) == THIN:
            # `ar t` prints these names so that they can be opened from the present directory.
            return [(member, _existing(Path(member.name), archive)) for member in listed]
    repeats = Counter(member.name for member in listed)
    once = folder / "1"
    once.mkdir(parents=True)
    if listed:
        _run(ar, ["x", "--output", str(once), str(archive)], archive)
    found = []
    for member in listed:
        place = once
        if repeats[member.name] > 1:
            place = folder / f"of-{member.count}"
            place.mkdir(exist_ok=True)
            options = ["xN", str(member.count), "--output", str(place), str(archive), member.name]
            _run(ar, options, archive)
        found.append((member, place / member.name))
    return found


def _existing(member: Path, archive: Path) -> Path:
    if not member.is_file():
        raise ScpatchError("SCP302", f"its member {member} is no file", file=str(archive))
    return member


def _listing(ar: str, archive: Path) -> list[_Member]:
    seen: Counter[str] = Counter()
    found = []
    for line in _run(ar, ["tv", str(archive)], archive).splitlines():
        match = _LISTED.fullmatch(line)
        if match is None:
            raise ScpatchError("SCP302", f"ar lists a member as {line!r}", file=str(archive))
        mode, owner, _, date, name = match.groups()
        seen[name] += 1
        found.append(_Member(name, seen[name], (mode, owner, date)))
    return found


def _run(ar: str, arguments: Sequence[str], archive: Path) -> str:
    done = subprocess.run(
        [ar, *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip() or f"exit status {done.returncode}"
        raise ScpatchError("SCP302", f"ar cannot read the archive: {reason}", file=str(archive))
    return done.stdout


def _pair(
    after: Path, first: list[tuple[_Member, Path]], second: list[tuple[_Member, Path]]
) -> Members:
    """Set the members side by side; names, order and attributes must be the same."""
    names = [[Path(member.name).name for member, _ in listed] for listed in (first, second)]
    if names[0] != names[1]:
        return Members((), (f"{after} has other members, or in another order.",))
    repeats, seen = Counter(names[0]), Counter[str]()
    pairs, errors = [], []
    for (old, one), (new, two) in zip(first, second, strict=True):
        seen[one.name] += 1
        name = one.name if repeats[one.name] == 1 else f"{one.name}#{seen[one.name]}"
        label = f"{after}({name})"
        with one.open("rb") as file:
            is_object = file.read(4) == _ELF
        if old.attributes != new.attributes:
            errors.append(f"{label}: mode, owner or date of the member was changed.")
        if not is_object and one.read_bytes() != two.read_bytes():
            errors.append(f"{label}: a member that is no object was changed.")
        pairs.append(Pair(label, one, two, is_object))
    return Members(tuple(pairs), tuple(errors))
