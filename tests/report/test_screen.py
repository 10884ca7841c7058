"""Width, colours, and text that fits."""

from __future__ import annotations

import io
import re

import pytest

from scpatch.report.blocks import Style
from scpatch.report.screen import SGR, Screen, screen_of, shorten


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environ", "colours"),
    [
        (XTERM, 256),
        ({"TERM": "linux"}, 8),
        ({"TERM": "linux", "COLORTERM": "truecolor"}, 256),
        ({}, 0),
        ({"TERM": "dumb"}, 0),
        ({**XTERM, "NO_COLOR": "1"}, 0),
        ({**XTERM, "NO_COLOR": ""}, 256),
        ({**XTERM, "CLICOLOR": "0"}, 0),
        ({**XTERM, "FORCE_COLOR": "0"}, 0),
        ({**XTERM, "FORCE_COLOR": "1", "NO_COLOR": "1"}, 0),
        ({**XTERM, "FORCE_COLOR": "1", "CLICOLOR": "0"}, 256),
    ],
)
def test_colours_of_a_terminal(environ: dict[str, str], colours: int) -> None:
    assert screen_of(Terminal(), environ).colours == colours


@pytest.mark.parametrize(
    ("environ", "colours"),
    [
        (XTERM, 0),
        ({**XTERM, "FORCE_COLOR": "1"}, 256),
        ({**XTERM, "FORCE_COLOR": "0"}, 0),
        ({**XTERM, "CLICOLOR_FORCE": "1"}, 256),
        ({"CLICOLOR_FORCE": "1"}, 8),
        ({**XTERM, "CLICOLOR": "1"}, 0),
    ],
)
def test_colours_of_a_pipe(environ: dict[str, str], colours: int) -> None:
    assert screen_of(io.StringIO(), environ).colours == colours


@pytest.mark.parametrize(("columns", "width"), [("123", 123), ("1", 1)])
def test_columns_gives_the_width(columns: str, width: int) -> None:
    assert screen_of(Terminal(), {"COLUMNS": columns}).width == width


@pytest.mark.parametrize("columns", ["", "0", "-5", "wide", "²"])
def test_nonsense_in_columns_is_ignored(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert screen_of(Terminal(), {"COLUMNS": columns}).width == screen_of(Terminal(), {}).width > 0


def test_paint_adds_escape_sequences_only_where_there_are_colours() -> None:
    assert Screen(80, 0).paint("x", Style.OLD) == "x"
    assert Screen(80, 256).paint("x", Style.PLAIN) == "x"
    assert Screen(80, 256).paint("", Style.OLD) == ""
    assert Screen(80, 256).paint("x", Style.OLD) == "\x1b[38;5;160mx\x1b[0m"
    assert Screen(80, 8).paint("x", Style.OLD) == "\x1b[31mx\x1b[0m"


def luminance(index: int) -> float:
    """Relative luminance (WCAG 2) of a colour of the 6x6x6 cube or of the grey ramp."""
    if index >= 232:
        levels = [8 + 10 * (index - 232)] * 3
    else:
        steps = (0, 95, 135, 175, 215, 255)
        levels = [steps[(index - 16) // d % 6] for d in (36, 6, 1)]
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
        for v in (level / 255 for level in levels)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("style", list(SGR))
def test_every_colour_is_readable_on_black_and_on_white(style: Style) -> None:
    many, few = SGR[style]
    for index in re.findall(r"38;5;(\d+)", many):
        light = luminance(int(index))
        assert 1.05 / (light + 0.05) >= 3.8, "on white"
        assert (light + 0.05) / 0.05 >= 3.8, "on black"
    # No backgrounds, no faint text, no yellow, no white.
    for parameter in {*many.split(";"), *few.split(";")} - {"38", "5", ""}:
        assert parameter not in ("2", "33", "37")
        assert not 40 <= int(parameter) <= 49


@pytest.mark.parametrize("width", range(5, 40))
def test_shortened_names_keep_both_ends(width: int) -> None:
    name = "r2save.__SCT__tp_func_kfree.d016ebdb23ba"
    short = shorten(name, width)
    assert len(short) <= width
    head, _, tail = short.partition("..")
    assert name.startswith(head)
    assert name.endswith(tail)
    assert head
    assert tail


def test_what_fits_is_not_shortened() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdef", 3) == "abc"
