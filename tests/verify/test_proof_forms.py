"""Nothing is proven of an object whose relocations, or whose code, the proof does not see."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.verify.proof import prove
from tests.relocated import READ, UNREAD, data
from tests.tools import rewritten


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_not_proven(tmp_path: Path, name: str) -> None:
    elf, _, _ = UNREAD[name]
    path = tmp_path / "x.o"
    path.write_bytes(data(elf))
    proof = prove(path, path)
    assert len(proof.errors) == 1
    assert not proof.sites


@pytest.mark.parametrize("name", READ)
def test_the_call_is_judged(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(data(READ[name]))
    assert [site.right for site in prove(path, path).sites] == [False]
    proof = prove(path, rewritten(path))
    assert proof.errors == ()
    assert [site.right for site in proof.sites] == [True]
