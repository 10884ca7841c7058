"""The fixture that is a module, signed and not, and one that the proof does not agree on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.bench import modules
from tests.tools import FIXTURES


def test_a_signature_is_taken_off() -> None:
    signed = (FIXTURES / "module-signed.ko").read_bytes()
    assert modules.unsigned(signed) == (FIXTURES / "module.ko").read_bytes()
    assert modules.unsigned(b"\x7fELF") == b"\x7fELF"


def test_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "PATTERNS", ("__SCT__*",))
    path = tmp_path / "module.ko"
    path.write_bytes((FIXTURES / "module.ko").read_bytes())
    states: Counter[str] = Counter()
    assert modules.disagreement(path, "auto", states) == ""
    assert states == {"rewrite": 2, "loader": 2}
    path.write_bytes(b"no module")
    assert "not an ELF file" in modules.disagreement(path, "auto", states)
