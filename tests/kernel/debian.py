"""Packages of any Debian release, fetched and unpacked without being installed.

apt runs with lists, a cache and sources of its own, so that neither the machine's release nor its
architecture matters, nor is root needed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.kernel.store import KernelError, folder, logged

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ARCHITECTURE = "ppc64el"
"""Also for packages of all architectures: the lists of each one have them."""


class Package(NamedTuple):
    name: str
    release: str
    """The name of a directory of the archive's `dists`: bookworm, trixie-backports."""


def unpacked(package: Package) -> Path:
    """A folder with the files of the package, and with DEBIAN/control. It is kept: a package is
    fetched once. To be called with the lock held.

    Raises KernelError where there is no package of just this name, or apt fails.
    """
    target = folder() / "debian" / package.release / package.name
    if target.exists():
        return target
    scratch = folder() / "debian" / "fetching"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    log = folder() / "fetch.log"
    log.unlink(missing_ok=True)
    apt = _apt(scratch, package.release)
    logged([*apt, "update"], log)
    # A name alone would be taken for a regular expression, where there is no such package.
    logged([*apt, "download", f"?exact-name({package.name})"], log, directory=scratch)
    new = scratch / "unpacked"
    logged(["dpkg-deb", "--raw-extract", *scratch.glob("*.deb"), new], log)
    if (fetched := field(new, "Package")) != package.name:
        raise KernelError(f"apt fetched {fetched} instead of {package.name}")
    target.parent.mkdir(exist_ok=True)
    new.replace(target)
    shutil.rmtree(scratch)
    return target


def field(unpacked: Path, name: str) -> str:
    """A field of DEBIAN/control: `Package`, `Version`."""
    start = f"{name}: "
    lines = (unpacked / "DEBIAN" / "control").read_text().splitlines()
    return next(line.removeprefix(start) for line in lines if line.startswith(start))


def _apt(scratch: Path, release: str) -> list[str]:
    """apt-get that uses of the machine only the settings for reaching archives."""
    state, cache, sources = scratch / "state", scratch / "cache", scratch / "sources.list"
    (state / "lists" / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    (state / "status").touch()
    sources.write_text(f"deb [signed-by={KEYRING}] {_archive()} {release} main\n")
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": cache,
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "APT::Architecture": ARCHITECTURE,
        "APT::Architectures": ARCHITECTURE,
        # The user that apt downloads as cannot reach root's home.
        "APT::Sandbox::User": "root",
    }
    return ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]


def _archive() -> str:
    """The address of the Debian archive that this machine's own apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    command += ["Created-By: Packages", "Label: Debian"]
    try:
        done = subprocess.run(command, text=True, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise KernelError(f"this is no Debian machine: {error}") from None
    if not done.stdout:
        raise KernelError("apt knows no archive of Debian's: run `apt-get update` as root")
    return done.stdout.splitlines()[0]
