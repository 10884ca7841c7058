"""Tables as wide as their contents, or as the screen."""

from __future__ import annotations

import pytest

from scpatch.report.blocks import Cell, Style
from scpatch.report.forms.text import lay_out
from scpatch.report.screen import Screen

ROWS = [
    (Cell("state"), Cell(".text", "+0x1a0"), Cell("a_function_with_a_long_name", "+0x40")),
    (Cell("x"), Cell(".init.text", "+0x4"), Cell("f", "+0x123456")),
]


def test_columns_are_as_wide_as_the_widest_cell() -> None:
    assert list(lay_out(ROWS, Screen(100, 0), "> ")) == [
        "> state  .text+0x1a0     a_function_with_a_long_name+0x40",
        "> x      .init.text+0x4  f+0x123456",
    ]


@pytest.mark.parametrize("width", range(45, 58))
def test_names_give_way_and_offsets_do_not(width: int) -> None:
    lines = list(lay_out(ROWS, Screen(width, 0), "> "))
    assert max(map(len, lines)) <= width
    assert all("+0x1a0" in lines[0] and "+0x40" in lines[0] for _ in lines)
    assert lines[1].endswith("f+0x123456")


def test_on_a_tiny_screen_a_line_is_too_long_rather_than_an_offset_cut() -> None:
    lines = list(lay_out(ROWS, Screen(10, 0)))
    assert "+0x1a0" in lines[0]
    assert "+0x40" in lines[0]
    assert "+0x123456" in lines[1]


def test_numbers_are_set_flush_right() -> None:
    rows = [(Cell("a"), Cell("", "1", right=True)), (Cell("b"), Cell("", "100", right=True))]
    assert list(lay_out(rows, Screen(80, 0))) == ["a    1", "b  100"]


def test_colours_do_not_count_as_columns() -> None:
    rows = [(Cell("ab", style=Style.OLD), Cell("c")), (Cell("abcd"), Cell("d"))]
    assert list(lay_out(rows, Screen(80, 8))) == ["\x1b[31mab\x1b[0m    c", "abcd  d"]


def test_no_rows_are_no_lines() -> None:
    assert list(lay_out([], Screen(80, 0))) == []
