"""Numbers in words."""

from __future__ import annotations

from scpatch.report.words import count


def test_plurals() -> None:
    assert count(0, "stub") == "0 stubs"
    assert count(1, "stub") == "1 stub"
    assert count(1234, "stub") == "1,234 stubs"
