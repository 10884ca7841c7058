"""Packages of another release than this machine's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import debian
from tests.debian import ALL, Lists, Package, available, field, newest, unpacked
from tests.kernel.store import KernelError

SMALL = "linux-source"
"""A package that depends on another one, and has hardly any files."""
BOOKWORM, TRIXIE = Lists("bookworm", ALL), Lists("trixie", ALL)


@pytest.mark.parametrize("lists", [BOOKWORM, TRIXIE], ids=["bookworm", "trixie"])
def test_the_package_is_the_one_that_was_asked_for(lists: Lists) -> None:
    package = newest(SMALL, lists)
    files = unpacked(package)
    assert (package.name, package.lists) == (SMALL, lists)
    assert field(files, "Package") == SMALL
    assert field(files, "Version") == package.version
    assert (files / "usr/share/doc" / SMALL).is_symlink()


def test_a_package_of_another_architecture() -> None:
    """Only its own lists have it."""
    name = r"linux-image-[0-9.-]+-powerpc64le"
    found = available(name, Lists("bookworm", "ppc64el"))
    assert found
    assert all(re.fullmatch(name, package.name) for package in found)
    assert available(name, Lists("bookworm", "amd64")) == ()


def test_the_newest_comes_first() -> None:
    """By Debian's order of versions, in which 6.12 is newer than 6.2."""

    def package(version: str) -> Package:
        return Package("x", version, TRIXIE)

    assert debian._compare(package("6.12-1"), package("6.2-1")) > 0
    assert debian._compare(package("7.3-1~bpo13+1"), package("7.3-1")) < 0
    assert debian._compare(package("7.3-1"), package("7.3-1")) == 0


def test_no_such_package() -> None:
    with pytest.raises(KernelError, match=r"no linux-no-such can be had.*trixie.*: there is no"):
        newest("linux-no-such", TRIXIE)


def test_a_version_that_the_archive_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next older one is taken. Where there is none, apt's words are told."""
    (there, *_) = available(SMALL, BOOKWORM)
    missing = there._replace(version="99.1")
    monkeypatch.setattr(debian, "PAUSE", 0)
    monkeypatch.setattr(debian, "available", lambda pattern, lists: (missing, there))
    try:
        assert newest(SMALL, BOOKWORM) == there
        monkeypatch.setattr(debian, "available", lambda pattern, lists: (missing,))
        with pytest.raises(KernelError, match=r"99\.1.*was not found"):
            newest(SMALL, BOOKWORM)
    finally:
        (debian._place(BOOKWORM) / f"{SMALL}_99.1.failed").unlink()


def test_lists_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The old ones are used, if there are any."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(debian, "PAUSE", 0)
    available.cache_clear()
    found = available(SMALL, BOOKWORM)
    available.cache_clear()
    monkeypatch.setattr(debian, "FRESH", -1)
    monkeypatch.setattr(debian, "KEYRING", "/dev/null")
    assert available(SMALL, BOOKWORM) == found
    with pytest.raises(KernelError, match=r"update: exit status 100"):
        available(SMALL, TRIXIE)
    available.cache_clear()
