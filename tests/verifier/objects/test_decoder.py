"""What objdump makes of instructions, held against capstone."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from scpatch.verifier.objects import decoder, insn
from scpatch.verifier.objects.insn import Effect
from tests.ppc64.test_effects import words

Reading = tuple[str, Effect, bool | None]


def readings(monkeypatch: pytest.MonkeyPatch, all_words: Iterable[int]) -> list[Reading]:
    for function in (decoder.capstone, insn.effect, insn.as_store, insn._text):
        function.cache_clear()
    found = []
    for word in all_words:
        store = insn.as_store(word)
        reaches = None if store is None else store.may_reach_slot(0)
        found.append((decoder.decode(word).partition(" ")[0], insn.effect(word), reaches))
    return found


def test_every_opcode_has_the_same_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """What both decode. capstone knows some reserved forms, objdump some more instructions."""
    all_words = sorted(set(words()))
    by_capstone = readings(monkeypatch, all_words)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "capstone", None)
        decoder.capstone.cache_clear()
        decoder.prepare(all_words)
        assert decoder.name().startswith("GNU objdump ")
        by_objdump = readings(monkeypatch, all_words)
    readings(monkeypatch, ())
    compared = differing = 0
    for word, ours, theirs in zip(all_words, by_capstone, by_objdump, strict=True):
        if ours[0] and theirs[0]:
            compared += 1
            differing += ours[1:] != theirs[1:]
            assert ours[1:] == theirs[1:], (hex(word), ours, theirs)
    assert compared > 50_000
    assert not differing
