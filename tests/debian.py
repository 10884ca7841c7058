"""Packages of any Debian release, found, fetched and unpacked without being installed.

apt runs with lists, a cache and sources of its own. So neither the machine's release nor its
architecture matters, and root is not needed.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.kernel.store import KernelError, folder, locked, logged

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ALL = "all"
"""The architecture of packages that do not depend on one. The lists of each architecture have them;
those of this machine's own are read."""

FRESH = 24 * 3600
"""How many seconds lists are used before they are fetched again."""
KEPT = 7 * 24 * 3600
"""How many seconds a package is kept that nobody asks for."""


class Lists(NamedTuple):
    """What one release has for one architecture."""

    release: str
    """The name of a directory of the archive's `dists`: bookworm, trixie-backports."""
    architecture: str
    """ppc64el, amd64, or ALL."""


class Package(NamedTuple):
    """A version of a package."""

    name: str
    version: str
    lists: Lists


def newest(pattern: str, lists: Lists) -> Package:
    """The newest package whose whole name matches a regular expression, of those that can be
    downloaded: `unpacked` has it then. An archive may list packages that it lacks.

    Raises KernelError where there is none, or the lists cannot be read.
    """
    failures = []
    for package in available(pattern, lists):
        try:
            unpacked(package)
        except KernelError as error:
            failures.append(str(error))
        else:
            return package
    reason = "\n".join(failures) or "there is no such package"
    where = f"{lists.release} ({lists.architecture})"
    raise KernelError(f"no {pattern} can be had from Debian's {where}: {reason}")


@functools.cache
def available(pattern: str, lists: Lists) -> tuple[Package, ...]:
    """The packages whose whole name matches a regular expression, the newest version first.

    Raises KernelError where the lists cannot be read.
    """
    with locked(_folder() / "lock"):
        apt = _fresh(lists)
        named = _output([*apt("apt-cache"), "search", "--names-only", f"^{pattern}$"])
        names = [line.split(" - ")[0] for line in named.splitlines()]
        shown = _output([*apt("apt-cache"), "show", *names]) if names else ""
    found = [_fields(record) for record in shown.split("\n\n") if record.strip()]
    packages = {Package(fields["Package"], fields["Version"], lists) for fields in found}
    matching = [package for package in packages if re.fullmatch(pattern, package.name)]
    return tuple(sorted(matching, key=functools.cmp_to_key(_compare), reverse=True))


def unpacked(package: Package) -> Path:
    """A folder with the files of the package, and with DEBIAN/control. It is kept: a package is
    fetched once.

    Raises KernelError where it cannot be downloaded, twice. It is not tried again then before the
    lists are fetched anew.
    """
    with locked(_folder() / "lock"):
        target = _folder() / package.lists.release / f"{package.name}_{package.version}"
        if target.exists():
            target.touch()
            return target
        apt = _fresh(package.lists)
        failed = _place(package.lists) / f"{target.name}.failed"
        if failed.exists():
            raise KernelError(failed.read_text())
        scratch = _folder() / "fetching"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        log = _folder() / "fetch.log"
        log.unlink(missing_ok=True)
        wanted = f"{package.name}={package.version}"
        try:
            _twice([*apt("apt-get"), "download", wanted], log, scratch)
        except KernelError as error:
            failed.write_text(str(error))
            raise
        new = scratch / "unpacked"
        logged(["dpkg-deb", "--raw-extract", *scratch.glob("*.deb"), new], log)
        if (fetched := field(new, "Package")) != package.name:
            raise KernelError(f"apt fetched {fetched} instead of {package.name}")
        _drop_unused(target.parent)
        new.replace(target)
        target.touch()
        shutil.rmtree(scratch)
        return target


def field(unpacked: Path, name: str) -> str:
    """A field of DEBIAN/control: `Package`, `Version`."""
    return _fields((unpacked / "DEBIAN" / "control").read_text())[name]


def _fields(record: str) -> dict[str, str]:
    """The fields of a paragraph that stand on one line."""
    return dict(re.findall(r"^([\w-]+): (.*)$", record, re.MULTILINE))


def _compare(one: Package, other: Package) -> int:
    def less(left: Package, right: Package) -> bool:
        command = ["dpkg", "--compare-versions", left.version, "lt", right.version]
        return subprocess.run(command, check=False).returncode == 0

    return less(other, one) - less(one, other)


def _folder() -> Path:
    path = folder() / "debian"
    path.mkdir(exist_ok=True)
    return path


def _place(lists: Lists) -> Path:
    return _folder() / "lists" / f"{lists.release}-{lists.architecture}"


def _drop_unused(packages: Path) -> None:
    packages.mkdir(exist_ok=True)
    for old in packages.iterdir():
        if old.stat().st_mtime < time.time() - KEPT:
            shutil.rmtree(old)


class _Apt(NamedTuple):
    """apt that uses of the machine only the settings for reaching archives."""

    options: tuple[str, ...]

    def __call__(self, program: str) -> list[str]:
        return [program, "-q", *self.options]


def _fresh(lists: Lists) -> _Apt:
    """Fetches the lists again if they are old. If that fails twice, the old ones are used.

    Raises KernelError if there are no old ones either.
    """
    place = _place(lists)
    complete = place / "complete"
    if complete.exists() and complete.stat().st_mtime > time.time() - FRESH:
        return _apt(place, lists)
    new, log = place.with_name("new"), _folder() / "update.log"
    log.unlink(missing_ok=True)
    shutil.rmtree(new, ignore_errors=True)
    try:
        _twice([*_apt(new, lists)("apt-get"), "update"], log)
    except KernelError:
        if not complete.exists():
            raise
        complete.touch()
    else:
        (new / "complete").touch()
        shutil.rmtree(place, ignore_errors=True)
        new.replace(place)
    return _apt(place, lists)


def _apt(place: Path, lists: Lists) -> _Apt:
    state, cache, sources = place / "state", place / "cache", place / "sources.list"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    sources.write_text(f"deb [signed-by={KEYRING}] {_archive()} {lists.release} main\n")
    architecture = _of_this_machine() if lists.architecture == ALL else lists.architecture
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": cache,
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "APT::Update::Error-Mode": "any",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        # The user that apt downloads as cannot reach root's home.
        "APT::Sandbox::User": "root",
    }
    return _Apt(tuple(f"-o{name}={value}" for name, value in settings.items()))


@functools.cache
def _of_this_machine() -> str:
    return _output(["dpkg", "--print-architecture"]).strip()


@functools.cache
def _archive() -> str:
    """The address of the Debian archive that this machine's own apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    said = _output([*command, "Created-By: Packages", "Label: Debian"])
    if not said:
        raise KernelError("apt knows no archive of Debian's: run `apt-get update` as root")
    return said.splitlines()[0]


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, text=True, capture_output=True, check=True).stdout
    except OSError as error:
        raise KernelError(f"this is no Debian machine: {error}") from None
    except subprocess.CalledProcessError as error:
        raise KernelError(f"{' '.join(command)}: {error.stderr}") from None


def _twice(command: Sequence[str], log: Path, directory: Path | None = None) -> None:
    """Runs a command that a busy archive may spoil, and once more where it fails."""
    try:
        logged(command, log, directory=directory, timeout=600)
    except KernelError:
        time.sleep(PAUSE)
        logged(command, log, directory=directory, timeout=600)


PAUSE = 3
"""Seconds before the second attempt."""
