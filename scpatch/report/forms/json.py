"""The document as JSON, in ASCII so that it is the same in any locale.

What the document holds as an iterator is written item by item, so that the differences of two
kernels are never held whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TextIO

import msgspec

from scpatch.report.blocks import Report
from scpatch.report.documents import document_of
from scpatch.report.look import Look

_NOT_ASCII = re.compile(r"[^\x00-~]+")


def write(report: Report, stream: TextIO, _look: Look) -> None:
    stream.writelines(_pieces(document_of(report), "\n"))
    stream.write("\n")


def _pieces(value: object, newline: str) -> Iterator[str]:
    """JSON text whose concatenation is the value; `newline` is a line end and the indentation."""
    items: Iterator[tuple[str, object]] | None = None
    if isinstance(value, Iterator):
        brackets, items = "[]", (("", item) for item in value)
    elif isinstance(value, msgspec.Struct):
        brackets, fields = "{}", msgspec.structs.fields(value)
        values = [(f'"{field.encode_name}": ', getattr(value, field.name)) for field in fields]
        if any(isinstance(inner, Iterator) for _, inner in values):
            items = iter(values)
    if items is None:
        text = msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
        text = _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text)
        yield text.replace("\n", newline)
        return
    between = brackets[0]
    for name, inner in items:
        yield f"{between}{newline} {name}"
        yield from _pieces(inner, newline + " ")
        between = ","
    yield brackets if between == brackets[0] else newline + brackets[1]
