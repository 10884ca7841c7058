"""What a user may choose about call sites."""

from __future__ import annotations

import pytest

from scpatch.sites.choices import Choices, Hoist, NoNop, Undefined


@pytest.mark.parametrize("field", ["undefined", "no_nop", "hoist"])
def test_an_unknown_word_is_an_error_at_once(field: str) -> None:
    with pytest.raises(ValueError, match="'thnk' is not a valid"):
        Choices(**{field: "thnk"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'thnk' is not a valid"):
        Choices()._replace(**{field: "thnk"})  # type: ignore[arg-type]


def test_a_word_is_taken_for_its_member() -> None:
    choices = Choices(["__SCT__*", "tp_*"], undefined="skip", no_nop="thunk", hoist="never")
    assert choices.trampolines == ("__SCT__*", "tp_*")
    assert choices.undefined is Undefined.SKIP
    assert choices.no_nop is NoNop.THUNK
    assert choices.hoist is Hoist.NEVER
