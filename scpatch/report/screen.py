"""The screen: how wide it is, whether it shows colours, and text that fits.

Colours are an extra; every report reads the same without them. They are chosen to be readable on a
light and on a dark background, and no background is ever set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple, TextIO

from scpatch.report.blocks import Style
from scpatch.report.look import DEFAULT_LOOK, Color, Look

SGR: Final = {
    Style.HEADING: ("1", "1"),
    Style.QUIET: ("38;5;243", ""),
    Style.OLD: ("38;5;160", "31"),
    Style.NEW: ("38;5;28", "32"),
    Style.CHANGED: ("38;5;27", "34"),
    Style.REFUSED: ("1;38;5;160", "1;31"),
}
"""SGR parameters for 256 colours and for 8.

The 256-colour values lie midway between black and white, with a contrast of at least 3.8 to each.
The 8 basic colours are what the user's theme makes them; yellow and white are not used.
"""


class Screen(NamedTuple):
    """Where a report goes: its width in columns and the number of colours (0, 8 or 256)."""

    width: int
    colours: int
    whole: bool = False
    """Whether names are never shortened, even if a line gets longer than `width`."""

    def paint(self, text: str, style: Style) -> str:
        """The text with the escape sequences of its style, if there are colours."""
        if not self.colours or not text or style not in SGR:
            return text
        parameters = SGR[style][self.colours < 256]
        return f"\x1b[{parameters}m{text}\x1b[0m" if parameters else text


def screen_of(
    stream: TextIO,
    environ: Mapping[str, str] | None = None,
    look: Look = DEFAULT_LOOK,
) -> Screen:
    """The screen that `stream` writes to. COLUMNS overrides the width that the terminal tells.
    In a pipe or a file names are whole: nobody can make those wider."""
    environ = os.environ if environ is None else environ
    whole = look.wide or not stream.isatty()
    return Screen(_width(environ), _colours(stream, environ, look.color), whole)


def _width(environ: Mapping[str, str]) -> int:
    wanted = environ.get("COLUMNS", "")
    if wanted.isascii() and wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    for descriptor in (1, 2, 0):
        try:
            return os.get_terminal_size(descriptor).columns or 80
        except OSError:
            continue
    return 80


def _colours(stream: TextIO, environ: Mapping[str, str], color: Color) -> int:
    """What the user chose, else the conventions: NO_COLOR (no-color.org) wins; FORCE_COLOR and
    CLICOLOR_FORCE turn colours on in a pipe too; CLICOLOR=0 and TERM=dumb turn them off on a
    terminal."""
    if color is Color.NEVER or (color is Color.AUTO and environ.get("NO_COLOR")):
        return 0
    term = environ.get("TERM", "")
    forced = color is Color.ALWAYS or any(
        environ.get(name, "0") not in ("", "0") for name in _FORCE
    )
    if not forced and (
        environ.get("CLICOLOR") == "0"
        or environ.get("FORCE_COLOR") == "0"
        or term in ("", "dumb")
        or not stream.isatty()
    ):
        return 0
    many = "256color" in term or environ.get("COLORTERM") in ("truecolor", "24bit")
    return 256 if many else 8


_FORCE: Final = ("FORCE_COLOR", "CLICOLOR_FORCE")


def shorten(text: str, width: int) -> str:
    """The text in at most `width` columns, with `..` in the middle if it is longer.

    The ends stay: the start of a name says what it is, the end tells it from its neighbours.
    """
    if len(text) <= width:
        return text
    if width <= 4:
        return text[:width]
    tail = (width - 2) // 2
    return f"{text[: width - 2 - tail].rstrip('.')}..{text[-tail:].lstrip('.')}"


def wrap(text: str, width: int, hanging: int = 0, lead: int = 0) -> list[str]:
    """Running text as lines of at most `width` columns: the first with room for `lead` columns
    before it, the others indented by `hanging`."""
    import textwrap

    first = "." * lead
    lines = textwrap.wrap(
        first + text,
        max(width, 20),
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.removeprefix(first) for line in lines[:1]] + lines[1:]
