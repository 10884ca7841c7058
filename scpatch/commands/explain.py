"""`scpatch explain`: the long text behind a diagnostic or a strategy."""

from __future__ import annotations

import textwrap

from scpatch import strategies
from scpatch.errors import Exit, ScpatchError
from scpatch.options import Values, suggestion
from scpatch.strategies.diagnostics import every_diagnostic

_WIDTH = 80


def run(values: Values) -> Exit:
    """Prints the text of a topic, or the list of topics. Raises ScpatchError for an unknown one."""
    print(_list() if values.topic is None else _text(values.topic))
    return Exit.OK


def _text(topic: str) -> str:
    diagnostics = every_diagnostic()
    if (diagnostic := diagnostics.get(topic.upper())) is not None:
        return "\n\n".join(
            (
                f"{topic.upper()}: {diagnostic.title}",
                textwrap.fill(diagnostic.text, _WIDTH),
                textwrap.fill(f"hint: {diagnostic.hint}", _WIDTH),
            )
        )
    if topic in strategies.names():
        strategy = strategies.load(topic)
        return f"{topic}: {strategy.summary}\n\n{strategy.text}"
    word = topic.upper() if topic[:1] in "sS" else topic.lower()
    known = [*diagnostics, *strategies.names()]
    raise ScpatchError(
        "",
        f"unknown code or strategy {topic!r}",
        hint=suggestion(word, known) or "`scpatch explain` lists them",
    )


def _list() -> str:
    rows = [f"{name:<17}{strategies.load(name).summary}" for name in strategies.names()]
    rows.append("")
    rows += [f"{code:<17}{diagnostic.title}" for code, diagnostic in every_diagnostic().items()]
    return "\n".join(rows)
