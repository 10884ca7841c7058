"""The members of two archives, side by side, for a proof member by member.

The archives are taken apart by binutils' `ar`, not by scpatch's own reader. A regular archive may
hold several members of one name, so those are extracted by their count (`ar xN COUNT`). The members
of a thin archive are used where they are (see `thin`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from scpatch.errors import ScpatchError
from scpatch.verifier.objects.read import ARCHIVES, BITCODE
from scpatch.verifier.thin import member_files

_, THIN = ARCHIVES
_PREFIX = "powerpc64le-linux-gnu-"
_BSD_INDEX = "__.SYMDEF"
"""The symbol index of a BSD archive, which GNU ar takes for a member. It is not compared: it holds
offsets, and GNU nm does not read it."""
_OBJECTS = b"\x7fELF", *BITCODE, *ARCHIVES
"""The first bytes of members that are objects, or that the proof refuses for what they are."""
_COPY = re.compile(r"(.+)\.[0-9a-f]{12,}(\..*|)")
_LISTED = re.compile(r"(\S+) (\S+) +(\d+) (\w+ +\d+ \d+:\d+ \d+) (.*)")
"""A line of `ar tv`: mode, owner, size in bytes, date, name."""


class ArchiveMember(NamedTuple):
    name: str
    number: int
    """1 for the first member of this name, 2 for the second."""
    attributes: tuple[str, str, str]
    """Mode, owner and date as `ar tv` prints them."""
    path: Path
    """The file that holds its content."""

    @property
    def is_object(self) -> bool:
        """Whether the member is for the proof. Any other must be the same in both archives."""
        with self.path.open("rb") as file:
            return file.read(8).startswith(_OBJECTS)


class MemberPair(NamedTuple):
    """A member of both archives. `label` is `ARCHIVE(MEMBER)`, with a count if names repeat."""

    label: str
    before: Path
    after: Path
    is_object: bool


class MemberPairs(NamedTuple):
    """The members of two archives, in order, and a sentence for each error outside of objects."""

    pairs: tuple[MemberPair, ...]
    errors: tuple[str, ...]


def is_archive(path: Path) -> bool:
    """Whether the file is an archive, regular or thin. Raises OSError."""
    with path.open("rb") as file:
        return file.read(8) in ARCHIVES


@contextmanager
def open_archive(archive: Path, ar: str | None = None) -> Iterator[list[ArchiveMember]]:
    """The members of an archive, each in a file of its own, as long as the context lasts.

    Raises ScpatchError if there is no `ar` (SCP301) or if it cannot read the archive (SCP302).
    """
    program = _find("ar", ar)
    with TemporaryDirectory(prefix="scpatch-verify-") as folder:
        yield _extract(program, archive, Path(folder))


@contextmanager
def open_archives(
    before: Path, after: Path, label: str, ar: str | None = None
) -> Iterator[MemberPairs]:
    """The members of two archives in pairs, as long as the context lasts. Messages call the second
    archive `label`.

    Raises ScpatchError if there is no `ar` or `nm` (SCP301) or if `ar` cannot read an archive
    (SCP302).
    """
    nm = _find("nm")
    with open_archive(before, ar) as old, open_archive(after, ar) as new:
        if not _have_same_names(old, new, after):
            yield MemberPairs((), (f"{label} has other members, or in another order.",))
            return
        pairs = list(_pair_up(old, new, label))
        errors = [
            error for members in zip(old, new, pairs, strict=True) for error in _check(*members)
        ]
        names = {second.path.name: first.path.name for first, second in zip(old, new, strict=True)}
        if pairs and _read_index(nm, before, {}) != _read_index(nm, after, names):
            errors.append(f"{label}: the archive's symbol index was changed.")
        yield MemberPairs(tuple(pairs), tuple(errors))


def _find(tool: str, chosen: str | None = None) -> str:
    for name in (chosen,) if chosen else (_PREFIX + tool, tool):
        if path := shutil.which(name):
            return path
    raise ScpatchError(
        "SCP301",
        f"{chosen or _PREFIX + tool} is needed to compare archives, and is not installed",
        hint="install the Debian package binutils-powerpc64le-linux-gnu",
    )


def _extract(ar: str, archive: Path, folder: Path) -> list[ArchiveMember]:
    """The members of an archive; those of a regular archive are extracted to `folder`."""
    members = list(_list(ar, archive, folder))
    with archive.open("rb") as file:
        is_thin = file.read(8) == THIN
    if is_thin:
        paths = member_files(archive, [member.name for member in members], folder)
        return [member._replace(path=path) for member, path in zip(members, paths, strict=True)]
    if members:
        _extract_to(folder / "1", ar, archive, ["x"])
    repeats = Counter(member.name for member in members)
    for member in members:
        if repeats[member.name] > 1:
            _extract_to(member.path.parent, ar, archive, ["xN", str(member.number)], member.name)
    return [
        member if repeats[member.name] > 1 else member._replace(path=folder / "1" / member.name)
        for member in members
    ]


def _extract_to(folder: Path, ar: str, archive: Path, options: Sequence[str], *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _run(ar, [*options, "--output", str(folder), str(archive), *names], archive)


def _list(ar: str, archive: Path, folder: Path) -> Iterator[ArchiveMember]:
    """The members that `ar` lists; each is to be extracted to a folder for its count."""
    counts: Counter[str] = Counter()
    for line in _run(ar, ["tv", str(archive)], archive).split("\n")[:-1]:
        match = _LISTED.fullmatch(line)
        if match is None:
            raise ScpatchError("SCP302", f"ar lists a member as {line!r}", file=str(archive))
        mode, owner, _, date, name = match.groups()
        if not name.startswith(_BSD_INDEX):
            counts[name] += 1
            path = folder / f"of-{counts[name]}" / name
            yield ArchiveMember(name, counts[name], (mode, owner, date), path)


def _run(ar: str, arguments: Sequence[str], archive: Path) -> str:
    done = subprocess.run(
        [ar, *arguments],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        check=False,
    )
    if done.returncode:
        reason = os.fsdecode(done.stderr).strip() or f"exit status {done.returncode}"
        raise ScpatchError("SCP302", f"ar cannot read the archive: {reason}", file=str(archive))
    return os.fsdecode(done.stdout)


def _read_index(nm: str, archive: Path, names: Mapping[str, str]) -> list[str]:
    """The lines `SYMBOL in MEMBER` of an archive's symbol index, without directories. `names`
    renames members."""
    lines: list[str] = []
    with subprocess.Popen(
        [nm, "--print-armap", str(archive)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    ) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            line = os.fsdecode(raw)
            if lines and not line.strip():
                break  # the symbols of each member follow
            symbol, word, member = line.strip().partition(" in ")
            name = Path(member).name
            lines += [f"{symbol} in {names.get(name, name)}"] if word else []
        process.kill()
    return lines


def _have_same_names(
    old: Sequence[ArchiveMember], new: Sequence[ArchiveMember], after: Path
) -> bool:
    return len(old) == len(new) and all(
        _is_same_name(first.path, second.path, after)
        for first, second in zip(old, new, strict=True)
    )


def _is_same_name(old: Path, new: Path, after: Path) -> bool:
    """Whether two members have one name. `rewrite` copies the members of a thin archive to a folder
    beside the new archive, and puts a digest before the suffix."""
    if old.name == new.name:
        return True
    copied = _COPY.fullmatch(new.name)
    if copied is None or new.parent.name != after.name + ".members":
        return False
    # Long names are cut, so that there is room for the digest.
    return old.stem.startswith(copied[1]) and old.suffix.startswith(copied[2])


def _pair_up(
    old: Sequence[ArchiveMember], new: Sequence[ArchiveMember], archive: str
) -> Iterator[MemberPair]:
    counts: Counter[str] = Counter()
    for first, second in zip(old, new, strict=True):
        name = first.path.name
        counts[name] += 1
        counted = name if counts[name] == 1 else f"{name}@{counts[name]}"
        yield MemberPair(f"{archive}({counted})", first.path, second.path, first.is_object)


def _check(old: ArchiveMember, new: ArchiveMember, pair: MemberPair) -> Iterator[str]:
    """What differs between two members, but for the content of objects."""
    if old.attributes != new.attributes:
        yield f"{pair.label}: mode, owner or date of the member was changed."
    if not pair.is_object and old.path.read_bytes() != new.path.read_bytes():
        yield f"{pair.label}: a member that is no object was changed."
