"""What `scpatch rewrite vmlinux.o` tells a kernel developer."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.tools import FIXTURES, run


@pytest.mark.parametrize(("name", "said"), [("vmlinux.o", True), ("vmlinux-2.o", False)])
def test_vmlinux_o_is_explained_in_one_line(tmp_path: Path, name: str, said: bool) -> None:
    path = tmp_path / name
    shutil.copy(FIXTURES / "merged.o", path)
    lines = run(sys.executable, "-m", "scpatch", "rewrite", path).stderr.splitlines()
    assert [line.startswith("note: ") for line in lines] == [False, *[True] * said]
    if said:
        assert "vmlinux.a" in lines[1]
        assert "scpatch-ld" in lines[1]
    assert run(sys.executable, "-m", "scpatch", "rewrite", "-q", path).stderr == ""
