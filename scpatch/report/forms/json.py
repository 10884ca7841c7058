"""The document as JSON, in ASCII so that it is the same in any locale.

What the document holds as an iterator is written item by item, so that the differences of two
kernels are never held whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

import msgspec

from scpatch.report.blocks import Report

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def write(report: Report, stream: TextIO) -> None:
    for piece in _pieces(report.document()):
        stream.write(piece)
    stream.write("\n")


def _pieces(value: object) -> Iterator[str]:
    """JSON text whose concatenation is the value."""
    if isinstance(value, Iterator):
        yield "["
        for index, item in enumerate(value):
            yield ",\n" if index else "\n"
            yield from _pieces(item)
        yield "]"
    elif isinstance(value, msgspec.Struct) and any(
        isinstance(getattr(value, name), Iterator) for name in value.__struct_fields__
    ):
        for index, field in enumerate(msgspec.structs.fields(value)):
            yield f'{", " if index else "{"}"{field.encode_name}": '
            yield from _pieces(getattr(value, field.name))
        yield "}"
    else:
        text = msgspec.json.encode(value).decode()
        yield text if text.isascii() else _NOT_ASCII.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    """`\\uXXXX`, of a character beyond U+FFFF two of them."""
    units = match[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
