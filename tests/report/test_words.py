"""Numbers in words."""

from __future__ import annotations

import pytest

from scpatch.report.words import clean, count


def test_plurals() -> None:
    assert count(0, "stub") == "0 stubs"
    assert count(1, "stub") == "1 stub"
    assert count(1234, "stub") == "1,234 stubs"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name", "plain name"),
        ("grüße", "grüße"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\tb\nc\rd", "a\\x09b\\x0ac\\x0dd"),
        ("\x9b1m", "\\x9b1m"),
        ("caf\udce9", "caf\\xe9"),
        ("abc\u202ecba", "abc\\u202ecba"),
    ],
)
def test_names_cannot_control_the_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown
