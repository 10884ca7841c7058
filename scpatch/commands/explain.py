"""`scpatch explain`: the long text behind a diagnostic or a strategy."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from scpatch import strategies
from scpatch.errors import Exit, ScpatchError
from scpatch.options import Values, suggestion
from scpatch.report.look import DEFAULT_LOOK
from scpatch.report.pager import paged
from scpatch.report.screen import screen_of, wrap
from scpatch.strategies.diagnostics import every_diagnostic

_WIDEST = 100
"""Longer lines of running text are hard to read."""
_COLUMN = 17
"""Where the texts of the list start."""

_LOOK_ALIKE = str.maketrans("OIL", "011")
"""Letters that are read for a digit of a code."""


def run(values: Values) -> Exit:
    """Prints the text of a topic, or the list of topics. Raises ScpatchError for an unknown one."""
    width = min(screen_of(sys.stdout).width, _WIDEST)
    lines = _list(width) if values.topic is None else _text(values.topic, width)
    with paged(sys.stdout, DEFAULT_LOOK._replace(pager=values.pager)) as stream:
        stream.writelines(f"{line}\n" for line in lines)
    return Exit.OK


def _text(topic: str, width: int) -> list[str]:
    diagnostics = every_diagnostic()
    if (diagnostic := diagnostics.get(topic.upper())) is not None:
        title, text, hint = diagnostic
        return _wrapped(f"{topic.upper()}: {title}\n\n{text}\n\nhint: {hint}", width)
    if topic in strategies.names():
        strategy = strategies.load(topic)
        return _wrapped(f"{topic}: {strategy.summary}\n\n{strategy.text}", width)
    word = topic.upper().translate(_LOOK_ALIKE) if topic[:1] in "sS" else topic.lower()
    known = [*diagnostics, *strategies.names()]
    raise ScpatchError(
        "",
        f"unknown code or strategy {topic!r}",
        hint=suggestion(word, known) or "`scpatch explain` lists them",
    )


def _wrapped(text: str, width: int) -> list[str]:
    """Paragraphs with a blank line between them; code, which is indented, stays as it is."""
    lines: list[str] = []
    for paragraph in text.strip("\n").split("\n\n"):
        if paragraph.startswith(" "):
            lines += paragraph.splitlines()
        else:
            lines += wrap(" ".join(paragraph.split()), width)
        lines.append("")
    return lines[:-1]


def _list(width: int) -> list[str]:
    names = {name: strategies.load(name).summary for name in strategies.names()}
    codes = {code: diagnostic.title for code, diagnostic in every_diagnostic().items()}
    return [*_rows(names, width), "", *_rows(codes, width)]


def _rows(texts: Mapping[str, str], width: int) -> list[str]:
    lines: list[str] = []
    for name, text in texts.items():
        first, *rest = wrap(text, width, hanging=_COLUMN, lead=_COLUMN)
        lines += [f"{name:<{_COLUMN}}{first}", *rest]
    return lines
