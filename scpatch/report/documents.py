"""JSON documents and plain lines: what programs read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from scpatch.report.term import clean

SCHEMA: Final = "scpatch/1"
"""Goes into every document; the number grows when a reader of the old form would break."""


def print_document(command: str, fields: Mapping[str, object]) -> None:
    """Prints one JSON document; `schema.json` beside this file says what is in it."""
    import json

    document = {"schema": SCHEMA, "command": command, **fields}
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


def plain_line(fields: Iterable[object]) -> str:
    """One line of tab-separated fields; `-` stands for an empty one."""
    return "\t".join(clean(str(field)) or "-" for field in fields) + "\n"


def print_lines(lines: Iterable[Sequence[object]]) -> None:
    for fields in lines:
        sys.stdout.write(plain_line(fields))
