"""The members of two archives, side by side, for a proof member by member.

The archives are taken apart by binutils' `ar`, not by scpatch's own reader. A regular archive may
hold several members of one name, so those are extracted by their count (`ar xN COUNT`); the members
of a thin archive are used where they lie (see `thin`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scpatch.errors import ScpatchError
from scpatch.verifier.objects.read import ARCHIVES, BITCODE
from scpatch.verifier.thin import files

REGULAR, THIN = ARCHIVES
_PREFIX = "powerpc64le-linux-gnu-"
_BSD_INDEX = "__.SYMDEF"
"""The symbol index of a BSD archive, which GNU ar takes for a member. It is not compared: it holds
offsets, and GNU nm does not read it."""
_JUDGED = b"\x7fELF", *BITCODE, *ARCHIVES
"""How a member starts that is an object or, where it is not, is refused for what it is."""
_COPY = re.compile(r"(.+)\.[0-9a-f]{12,}(\..*|)")
_LISTED = re.compile(r"(\S+) (\S+) +(\d+) (\w+ +\d+ \d+:\d+ \d+) (.*)")
"""A line of `ar tv`: mode, owner, size in bytes, date, name."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A member of both archives. `label` is `ARCHIVE(MEMBER)`, counted where names repeat."""

    label: str
    before: Path
    after: Path
    is_object: bool
    """The member is for the proof; any other must be the same in both archives."""


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

    Raises ScpatchError where there is no `ar` or `nm` (SCP301) or `ar` cannot read an archive
    (SCP302).
    """
    program, nm = _find("ar", ar), _find("nm")
    with tempfile.TemporaryDirectory(prefix="scpatch-verify-") as name:
        folder = Path(name)
        first = _open(program, before, folder / "before")
        second = _open(program, after, folder / "after")
        found = _pair(after, first, second)
        names = {
            Path(new.name).name: Path(old.name).name
            for (old, _), (new, _) in zip(first, second, strict=False)
        }
        if found.pairs and _index(nm, before, {}) != _index(nm, after, names):
            changed = f"{after}: the archive's symbol index was changed."
            found = Members(found.pairs, (*found.errors, changed))
        yield found


def _find(tool: str, chosen: str | None = None) -> str:
    for name in (chosen,) if chosen else (_PREFIX + tool, tool):
        if path := shutil.which(name):
            return path
    raise ScpatchError(
        "SCP301",
        f"{chosen or _PREFIX + tool} is needed to compare archives, and is not installed",
        hint="install the Debian package binutils-powerpc64le-linux-gnu",
    )


def _open(ar: str, archive: Path, folder: Path) -> list[tuple[_Member, Path]]:
    """The members of an archive and the file that holds each."""
    listed = _listing(ar, archive)
    with archive.open("rb") as file:
        if file.read(8) == THIN:
            found = files(archive, [member.name for member in listed], folder)
            return list(zip(listed, found, strict=True))
    repeats = Counter(member.name for member in listed)
    once = folder / "1"
    once.mkdir(parents=True)
    if listed:
        _run(ar, ["x", "--output", str(once), str(archive)], archive)
    extracted = []
    for member in listed:
        place = once
        if repeats[member.name] > 1:
            place = folder / f"of-{member.count}"
            place.mkdir(exist_ok=True)
            options = ["xN", str(member.count), "--output", str(place), str(archive), member.name]
            _run(ar, options, archive)
        extracted.append((member, place / member.name))
    return extracted


def _listing(ar: str, archive: Path) -> list[_Member]:
    seen: Counter[str] = Counter()
    found = []
    for line in _run(ar, ["tv", str(archive)], archive).split("\n")[:-1]:
        match = _LISTED.fullmatch(line)
        if match is None:
            raise ScpatchError("SCP302", f"ar lists a member as {line!r}", file=str(archive))
        mode, owner, _, date, name = match.groups()
        if name.startswith(_BSD_INDEX):
            continue
        seen[name] += 1
        found.append(_Member(name, seen[name], (mode, owner, date)))
    return found


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


def _index(nm: str, archive: Path, names: Mapping[str, str]) -> list[str]:
    """The lines `SYMBOL in MEMBER` of an archive's symbol index, without directories; a member
    goes by what `names` calls it, if anything."""
    command = [nm, "--print-armap", str(archive)]
    found: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    ) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            line = os.fsdecode(raw)
            if found and not line.strip():
                break  # the symbols of each member follow, which nobody asked for
            symbol, word, member = line.strip().partition(" in ")
            name = Path(member).name
            found += [f"{symbol} in {names.get(name, name)}"] if word else []
        process.kill()
    return found


def _same_name(old: Path, new: Path, after: Path) -> bool:
    """Whether two members have one name. The copy of a thin archive's member, in the folder beside
    the new archive, has a digest in front of its suffix."""
    if old.name == new.name:
        return True
    copied = _COPY.fullmatch(new.name)
    if copied is None or new.parent.name != after.name + ".members":
        return False
    # Long names are cut, so that there is room for the digest.
    return old.stem.startswith(copied[1]) and old.suffix.startswith(copied[2])


def _pair(
    after: Path, first: list[tuple[_Member, Path]], second: list[tuple[_Member, Path]]
) -> Members:
    """Set the members side by side; names, order and attributes must be the same."""
    if len(first) != len(second) or not all(
        _same_name(Path(old.name), Path(new.name), after)
        for (old, _), (new, _) in zip(first, second, strict=True)
    ):
        return Members((), (f"{after} has other members, or in another order.",))
    seen = Counter[str]()
    pairs, errors = [], []
    for (old, one), (new, two) in zip(first, second, strict=True):
        seen[one.name] += 1
        name = one.name if seen[one.name] == 1 else f"{one.name}@{seen[one.name]}"
        label = f"{after}({name})"
        with one.open("rb") as file:
            is_object = file.read(8).startswith(_JUDGED)
        if old.attributes != new.attributes:
            errors.append(f"{label}: mode, owner or date of the member was changed.")
        if not is_object and one.read_bytes() != two.read_bytes():
            errors.append(f"{label}: a member that is no object was changed.")
        pairs.append(Pair(label, one, two, is_object))
    return Members(tuple(pairs), tuple(errors))
