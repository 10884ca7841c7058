"""Input that is cut off while it is read: an error, and no death by SIGBUS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scpatch.elf.reader import ElfFile
from scpatch.files.inputs import read_object
from scpatch.rewriter import Options, plan_file, write
from tests.faults.support import REFUSED_TO_WRITE, start
from tests.tools import FIXTURES


@pytest.mark.parametrize("size", [0, 64, 5000])
def test_an_object_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "merged.o"
    path.write_bytes((FIXTURES / "merged.o").read_bytes())
    before = path.read_bytes()

    def cut(data: memoryview, name: str, *, linked: bool = False) -> ElfFile:
        os.truncate(path, size)
        return read_object(data, name, linked=linked)

    monkeypatch.setattr("scpatch.rewriter.object.read_object", cut)
    child = start(lambda: write([plan_file(path, Options())], allow_refused=True))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == REFUSED_TO_WRITE
    assert path.read_bytes() == before[:size]
    assert list(tmp_path.iterdir()) == [path]
