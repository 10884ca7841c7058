"""The members of two archives, side by side, for a proof member by member.

The archives are taken apart by binutils' `ar`, not by scpatch's own reader. A regular archive may
hold several members of one name, so those are extracted by their count (`ar xN COUNT`). The members
of a thin archive are used where they are (see `thin`).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from scpatch.errors import ScpatchError
from scpatch.verifier.objects.read import ARCHIVES, BITCODE
from scpatch.verifier.thin import check_files, member_files
from scpatch.verifier.tools import USUAL, Toolchain, find

_, THIN = ARCHIVES
_BSD_INDEX = "__.SYMDEF"
"""The symbol index of a BSD archive, which GNU ar takes for a member. It is not compared: it holds
offsets, and GNU nm does not read it."""
_OBJECTS = b"\x7fELF", *BITCODE, *ARCHIVES
"""The first bytes of members that are objects, or that the proof refuses for what they are."""
_COPY = re.compile(r"(.+)\.[0-9a-f]{12,}(\..*|)")
_LISTED = re.compile(r"(\S+) (\S+) +(\d+) (\w+ +\d+ \d+:\d+ \d+) (.*)")
"""A line of `ar tv`: mode, owner, size in bytes, date, name."""


class ArchiveMember(NamedTuple):
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
def open_archive(archive: Path, toolchain: Toolchain = USUAL) -> Iterator[list[ArchiveMember]]:
    """The members of an archive, each in a file of its own, as long as the context lasts.

    Raises ScpatchError if there is no `ar` (SCP301), if it cannot read the archive (SCP302), or if
    a member of a thin one is missing (SCP109).
    """
    with TemporaryDirectory(prefix="scpatch-verify-") as folder:
        yield _extract(_find("ar", toolchain), archive, Path(folder))


@contextmanager
def open_archives(
    before: Path, after: Path, label: str, toolchain: Toolchain = USUAL
) -> Iterator[MemberPairs]:
    """The members of two archives in pairs, as long as the context lasts. Messages call the second
    archive `label`.

    Raises ScpatchError if there is no `ar` or `nm` (SCP301) or if `ar` cannot read an archive
    (SCP302).
    """
    nm = _find("nm", toolchain)
    with open_archive(before, toolchain) as old, open_archive(after, toolchain) as new:
        renamed = {to.path.name: source.path.name for source, to in zip(old, new, strict=False)}
        if len(old) != len(new) or not all(map(_is_same_name, old, new, repeat(after))):
            yield MemberPairs((), (f"{label} has other members, or in another order.",))
            return
        pairs, errors = _pair_up(old, new, label)
        if pairs and _read_index(nm, before, {}) != _read_index(nm, after, renamed):
            errors += (f"{label}: the archive's symbol index was changed.",)
        yield MemberPairs(pairs, errors)


def _find(tool: str, toolchain: Toolchain) -> str:
    named = toolchain.ar if tool == "ar" else None
    purpose = "to compare archives"
    return find(tool, toolchain=toolchain, purpose=purpose, named=named, any_machine=True)


def _extract(ar: str, archive: Path, folder: Path) -> list[ArchiveMember]:
    """The members of an archive; those of a regular archive are extracted to `folder`."""
    with archive.open("rb") as file:
        is_thin = file.read(8) == THIN
    if is_thin:
        check_files(archive)
    members = list(_list(ar, archive))
    names = [name for name, _ in members]
    paths = (
        member_files(archive, names, folder)
        if is_thin
        else list(_extract_regular(ar, archive, names, folder))
    )
    return [
        ArchiveMember(attributes, path)
        for (_, attributes), path in zip(members, paths, strict=True)
    ]


def _extract_regular(ar: str, archive: Path, names: Sequence[str], folder: Path) -> Iterator[Path]:
    """The file of each member. Members whose names repeat go to a folder for their count."""
    repeats, counts = Counter(names), Counter[str]()
    if names:
        _extract_to(folder / "all", ar, archive, "x")
    for name in names:
        counts[name] += 1
        if repeats[name] == 1:
            yield folder / "all" / name
        else:
            count = str(counts[name])
            _extract_to(folder / count, ar, archive, "xN", count, names=[name])
            yield folder / count / name


def _extract_to(
    folder: Path, ar: str, archive: Path, *options: str, names: Sequence[str] = ()
) -> None:
    folder.mkdir(exist_ok=True)
    _run(ar, [*options, "--output", str(folder), str(archive), *names], archive)


def _list(ar: str, archive: Path) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """The name and the attributes of each member, as `ar` lists them."""
    for line in _run(ar, ["tv", str(archive)], archive).split("\n")[:-1]:
        match = _LISTED.fullmatch(line)
        if match is None:
            raise ScpatchError("SCP302", f"ar lists a member as {line!r}", file=str(archive))
        mode, owner, _, date, name = match.groups()
        if not name.startswith(_BSD_INDEX):
            yield name, (mode, owner, date)


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


def _is_same_name(before: ArchiveMember, copy: ArchiveMember, after: Path) -> bool:
    """Whether two members have one name. `rewrite` copies the members of a thin archive to a folder
    beside the new archive, and puts a digest before the suffix."""
    old, new = before.path, copy.path
    if old.name == new.name:
        return True
    copied = _COPY.fullmatch(new.name)
    if copied is None or new.parent.name != after.name + ".members":
        return False
    # Long names are cut, so that there is room for the digest.
    return old.stem.startswith(copied[1]) and old.suffix.startswith(copied[2])


def counted_names(members: Iterable[ArchiveMember]) -> Iterator[str]:
    """The name of each member, with a count if it repeats."""
    counts: Counter[str] = Counter()
    for member in members:
        name = member.path.name
        counts[name] += 1
        yield name if counts[name] == 1 else f"{name}@{counts[name]}"


def _pair_up(
    old: Sequence[ArchiveMember], new: Sequence[ArchiveMember], archive: str
) -> MemberPairs:
    """The members in pairs, and what differs between two, but for the content of objects."""
    pairs, errors = [], []
    for first, second, counted in zip(old, new, counted_names(old), strict=True):
        pair = MemberPair(f"{archive}({counted})", first.path, second.path, first.is_object)
        pairs.append(pair)
        if first.attributes != second.attributes:
            errors.append(f"{pair.label}: mode, owner or date of the member was changed.")
        if not pair.is_object and pair.before.read_bytes() != pair.after.read_bytes():
            errors.append(f"{pair.label}: a member that is no object was changed.")
    return MemberPairs(tuple(pairs), tuple(errors))
