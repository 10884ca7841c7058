"""Packages of another release than this machine's."""

from __future__ import annotations

import pytest

from tests.kernel.debian import Package, field, unpacked
from tests.kernel.source import SOURCE
from tests.kernel.store import KernelError, folder, locked


def test_the_source_is_the_one_that_was_asked_for() -> None:
    with locked(folder() / "lock"):
        source = unpacked(SOURCE)
    assert field(source, "Package") == "linux-source-6.1"
    assert field(source, "Version").startswith("6.1.")
    assert (source / "usr/src/linux-source-6.1.tar.xz").is_file()


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_name_is_no_pattern(release: str) -> None:
    """Both releases have packages whose names it is a part of; apt would fetch one of those."""
    with locked(folder() / "lock"), pytest.raises(KernelError):
        unpacked(Package("linux-source-6", release))
