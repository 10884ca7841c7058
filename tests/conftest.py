"""Fixtures for all tests, and the profiles of hypothesis.

A run always tries the same examples, so that it fails for what was changed and for nothing else.
HYPOTHESIS_PROFILE=search looks for others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests import tools

settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture
def assemble(tmp_path: Path) -> Callable[..., Path]:
    """Assembles text with the macros of `tests.tools` into a file in the test's folder."""

    def make(source: str, name: str = "x.o") -> Path:
        return tools.assemble(tmp_path, source, name)

    return make


@pytest.fixture(scope="session")
def of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all processes of this test run share, and no other run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
