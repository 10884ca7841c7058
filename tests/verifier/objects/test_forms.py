"""Nothing is proven of an object whose relocations, or whose code, the proof does not see."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.verifier.proof import prove
from tests.elfwriter import LD_R2
from tests.proof_files import only_word
from tests.relocated import CALL, READ, UNREAD, call, data
from tests.tools import rewritten, scan_file


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


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, (1 << 64) - 48])
def test_a_function_of_any_size(tmp_path: Path, size: int) -> None:
    """The search for a save looks at the whole function, and at no more than its section."""
    elf = only_word(call(), CALL + 4, LD_R2)
    symbols = [
        replace(symbol, size=size) if symbol.name == "f" else symbol for symbol in elf.symbols
    ]
    path = tmp_path / "x.o"
    path.write_bytes(data(replace(elf, symbols=symbols)))
    started = time.monotonic()
    (site,) = prove(path, path).sites
    assert time.monotonic() - started < 30
    assert not site.right
    assert [site.function for site in scan_file(path).sites] == ["f"]
