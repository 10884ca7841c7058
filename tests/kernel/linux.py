"""The kernels that can be built: Debian's sources, of which each release has its own."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.debian import ALL, Lists, Package, available, newest
from tests.kernel.store import KernelError, folder

RELEASES = ("bookworm", "trixie", "trixie-backports")
"""The newest kernel of each is built."""

_PREFIX = "linux-source-"
_ANY = r"[0-9]+(\.[0-9]+)+"


@dataclass(frozen=True)
class Linux:
    """A kernel source, not yet a tree: what is built from it depends on the Variant."""

    package: Package

    @property
    def version(self) -> str:
        """As in the package's name: 6.12."""
        return self.package.name.removeprefix(_PREFIX)

    @property
    def folder(self) -> Path:
        """Its source and object trees, one of each kind."""
        path = folder() / self.version
        path.mkdir(exist_ok=True)
        return path

    def __str__(self) -> str:
        return f"Linux {self.package.version} ({self.package.lists.release})"


class Selection(NamedTuple):
    """The kernels of a test run, the newest first."""

    full: tuple[Linux, ...]
    """These go through all tests that hold for them, but for those that compile yet another tree
    where `thorough` is false."""
    short: tuple[Linux, ...] = ()
    """These go through the short list only."""
    thorough: bool = True

    @property
    def every(self) -> tuple[Linux, ...]:
        return (*self.full, *self.short)


def select(words: str | None = None) -> Selection:
    """The kernels that `--linux` names: `all`, or versions with commas between them. Without it
    what a run of CI has the time for.

    Raises KernelError where one cannot be had.
    """
    if words not in (None, "all"):
        return Selection(_sorted([_of_version(word) for word in str(words).split(",")]))
    every = _sorted([Linux(newest(_PREFIX + _ANY, Lists(name, ALL))) for name in RELEASES])
    return Selection(every) if words else Selection(every[:1], every[1:], thorough=False)


def _of_version(version: str) -> Linux:
    pattern = _PREFIX + re.escape(version)
    for release in reversed(RELEASES):
        if available(pattern, lists := Lists(release, ALL)):
            return Linux(newest(pattern, lists))
    raise KernelError(f"none of {', '.join(RELEASES)} has {_PREFIX}{version}")


def _sorted(kernels: Collection[Linux]) -> tuple[Linux, ...]:
    """The newest first, one of each version."""
    by_version = {tuple(map(int, linux.version.split("."))): linux for linux in kernels}
    return tuple(by_version[version] for version in sorted(by_version, reverse=True))
