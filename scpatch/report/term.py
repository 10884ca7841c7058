"""The terminal: how wide it is, whether it shows colours, and text that cannot harm it.

Colours are an extra; every report reads the same without them. They are chosen to be readable on a
light and on a dark background, and no background is ever set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple, TextIO


class Style(Enum):
    """What a piece of text is; each style is a pair of SGR parameters: for 256 colours and for 8.

    The 256-colour values lie midway between black and white, with a contrast of 3.8 or more to
    each. The 8 basic colours are what the user's theme makes them; yellow and white are not used.
    """

    PLAIN = ("", "")
    HEADING = ("1", "1")
    QUIET = ("38;5;243", "")
    OLD = ("38;5;160", "31")
    NEW = ("38;5;28", "32")
    CHANGED = ("38;5;27", "34")
    REFUSED = ("1;38;5;160", "1;31")


class Screen(NamedTuple):
    """Where a report goes: its width in columns and the number of colours (0, 8 or 256)."""

    width: int
    colours: int

    def paint(self, text: str, style: Style) -> str:
        """The text with the escape sequences of its style; as it is where there are no colours."""
        if not self.colours or not text:
            return text
        parameters = style.value[0] if self.colours >= 256 else style.value[1]
        return f"\x1b[{parameters}m{text}\x1b[0m" if parameters else text


def screen(stream: TextIO, environ: Mapping[str, str] | None = None) -> Screen:
    """The screen that `stream` writes to. COLUMNS overrides the width that the terminal tells."""
    environ = os.environ if environ is None else environ
    return Screen(_width(environ), _colours(stream, environ))


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


def _colours(stream: TextIO, environ: Mapping[str, str]) -> int:
    """The conventions: NO_COLOR (no-color.org) wins; FORCE_COLOR and CLICOLOR_FORCE turn colours on
    in a pipe too; CLICOLOR=0 and TERM=dumb turn them off on a terminal."""
    if environ.get("NO_COLOR"):
        return 0
    term = environ.get("TERM", "")
    forced = any(environ.get(name, "0") not in ("", "0") for name in _FORCE)
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
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with control characters, and bytes that are no UTF-8, written as `\\xNN`.

    Names come from the object: they must neither move the cursor nor break a line of a report.
    """
    return _UNPRINTABLE.sub(_escape, text) if not text.isprintable() else text


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape has carried along
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shorten(text: str, width: int) -> str:
    """The text in at most `width` columns, with `..` in the middle where it is longer.

    The ends stay: the start of a name says what it is, the end tells it from its neighbours.
    """
    if len(text) <= width:
        return text
    if width <= 4:
        return text[:width]
    tail = (width - 2) // 2
    return f"{text[: width - 2 - tail].rstrip('.')}..{text[-tail:].lstrip('.')}"


def wrap(text: str, width: int, indent: str) -> list[str]:
    """Running text as lines of at most `width` columns, all but the first indented."""
    import textwrap

    return textwrap.wrap(text, max(width, 20), subsequent_indent=indent, break_long_words=False)


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 stub`, `1,204 stubs`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
