"""The checks of the fuzzers report each kind of fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scpatch.errors import ScpatchError
from scpatch.rewriter import plan_object
from tests.fuzz import exercise
from tests.fuzz.exercise import Exercise, FaultError, ended_after, told
from tests.fuzz.findings import Findings, kind_of
from tests.fuzz.modes import MODES
from tests.tools import FIXTURES, apply

DATA = (FIXTURES / "calls-gcc.o").read_bytes()


def replaced(monkeypatch: pytest.MonkeyPatch, step: Callable[[], object]) -> None:
    """Has every planning do something more."""

    def planned(*arguments: Any) -> Any:
        step()
        return plan_object(*arguments)

    monkeypatch.setattr(exercise, "plan_object", planned)


def forever() -> None:
    while True:
        pass


def test_much_memory_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Exercise(tmp_path).rewrite(DATA, MODES[1]) == "rewritten and proven"  # loads the code
    assert Exercise(tmp_path, memory=True).rewrite(DATA, MODES[1]) == "rewritten and proven"
    replaced(monkeypatch, lambda: len(bytes(30 * len(DATA) + exercise.CONSTANT)))
    assert Exercise(tmp_path).rewrite(DATA, MODES[1]) == "rewritten and proven"
    with pytest.raises(FaultError, match="memory: planning took"):
        Exercise(tmp_path, memory=True).rewrite(DATA, MODES[1])


def test_long_steps_are_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, lambda: sum(range(1_000_000)))
    monkeypatch.setattr(exercise, "SECONDS", 0.001)
    with pytest.raises(FaultError, match="slow: planning took"):
        Exercise(tmp_path).rewrite(DATA, MODES[1])
    with pytest.raises(FaultError, match="slow: not done"), ended_after(0.05):
        forever()


def test_a_rewrite_that_the_proof_refuses_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes, layout: Any) -> bytes:
        # One bit of the last word of code that was added.
        new = bytearray(good(data, layout))
        at = new.rindex(bytes.fromhex("180041f8"))
        new[at + 2] ^= 1
        return bytes(new)

    good = apply
    monkeypatch.setattr(exercise, "apply", broken)
    monkeypatch.setattr(Exercise, "_again", lambda *_: None)
    with pytest.raises(FaultError, match="proof: "):
        Exercise(tmp_path).rewrite(DATA, MODES[1])


def test_errors_say_something_and_alike_ones_are_kept_once(tmp_path: Path) -> None:
    assert told(ScpatchError("SCP107", "damaged")) == "SCP107"
    with pytest.raises(FaultError, match="without a message"):
        told(ScpatchError("SCP107", ""))
    findings = Findings(tmp_path)
    first, second = (FaultError("proof", f".text+{at:#x} in f: wrong") for at in (16, 32))
    assert findings.add(first, b"1") == findings.add(second, b"2") == kind_of(first)
    (kept,) = tmp_path.glob("*[!t]")
    assert kept.read_bytes() == b"1"
    assert findings.kinds == {kind_of(first): 2}
