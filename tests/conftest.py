"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tools


@pytest.fixture
def assemble(tmp_path: Path) -> Callable[..., Path]:
    """Assembles text with the macros of `tests.tools` into a file of the test's own folder."""

    def make(source: str, name: str = "x.o") -> Path:
        return tools.assemble(tmp_path, source, name)

    return make
