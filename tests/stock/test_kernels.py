"""Which kernel is taken, and what is said if there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.debian import Lists, Package
from tests.kernel.store import KernelError
from tests.stock import kernels
from tests.stock.kernels import Stock, stock

NAMES = ("linux-image-7.2.12-powerpc64le", "linux-image-7.2.11-powerpc64le")


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """What can be downloaded, by release. The lists of each have NAMES, and those of any other
    release cannot be read."""
    there: dict[str, set[str]] = {}

    def available(pattern: str, lists: Lists) -> tuple[Package, ...]:
        if lists.release not in there:
            raise KernelError("update: exit status 100")
        return tuple(Package(name, "1", lists) for name in NAMES)

    def fetched(image: Package) -> Stock:
        if image.name not in there[image.lists.release]:
            raise KernelError("404")
        return Stock(image.name, Path("vmlinux"), Path("tree"))

    monkeypatch.setattr(kernels, "available", available)
    monkeypatch.setattr(kernels, "_fetched", fetched)
    return there


def test_the_newest_that_can_be_downloaded(archive: dict[str, set[str]]) -> None:
    archive["backports"] = {NAMES[1]}
    assert stock(["backports", "trixie"]).release == NAMES[1]


def test_it_warns_if_the_backport_cannot_be_had(archive: dict[str, set[str]]) -> None:
    archive["trixie"] = {NAMES[0]}
    with pytest.warns(UserWarning, match=f"{NAMES[0]} is tested instead: update: exit status 100"):
        assert stock(["backports", "trixie"]).release == NAMES[0]


def test_no_kernel_is_an_error_that_says_why(archive: dict[str, set[str]]) -> None:
    archive["trixie"] = set()
    with pytest.raises(KernelError) as error:
        stock(["backports", "trixie"])
    assert str(error.value) == (
        "a built kernel of Debian is needed, with its headers. It is fetched once; "
        "`--ignore tests/stock` leaves out what needs it.\n"
        "update: exit status 100\n"
        "no kernel can be had from Debian's trixie (ppc64el): "
        "linux-image-7.2.12-powerpc64le: 404\nlinux-image-7.2.11-powerpc64le: 404"
    )


def test_a_machine_that_is_not_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> dict[str, str]:
        raise FileNotFoundError("no os-release")

    monkeypatch.setattr("platform.freedesktop_os_release", nothing)
    with pytest.raises(KernelError, match="this is no Debian machine: no os-release"):
        kernels.own_release()
