"""The sections of the kernel that is built here are those that scpatch knows."""

from __future__ import annotations

import pytest

from tests.kernel.build import Kernel
from tests.kernel_sections import fixups, relocated, unknown


@pytest.mark.short
def test_every_relocated_section_is_known(naive: Kernel) -> None:
    for path in (naive.vmlinux.with_name("vmlinux.o"), *naive.modules):
        sections = relocated(path)
        assert sections
        assert unknown(sections) == set()
        assert fixups(sections) == set()
