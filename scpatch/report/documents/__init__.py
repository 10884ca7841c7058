"""The JSON documents as types: what `--format json` prints, and what the schema is made from.

A field is called as the attribute of the model that it shows, unless JSON has another name for it.
Only what needs JSON imports this package: the import of msgspec takes time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from scpatch.report.escape import clean

SCHEMA: Final = "scpatch/1"
"""Goes into every document; the number grows with every change of the documents."""

Natural = Annotated[int, Meta(ge=0)]
Word = Annotated[str, Meta(pattern="^0x([0-9a-f]{2}){1,4}$")]
Strings = list[str]


def natural(description: str) -> Meta:
    return Meta(ge=0, description=description)


def about(description: str) -> Meta:
    return Meta(description=description)


def listed(name: str, description: str | None = None) -> Meta:
    """A string that is one of those that the schema lists as `name`."""
    return Meta(description=description, extra_json_schema={"$ref": f"#/$defs/{name}"})


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """An object of a document. All fields are there; one without a value is empty or null."""


class Document(Entry):
    schema: Annotated[Literal["scpatch/1"], about("The version of the documents.")]


_Entry = TypeVar("_Entry", bound=Entry)


def entry(kind: type[_Entry], source: object = None, **computed: object) -> _Entry:
    """An entry whose fields are the attributes of `source`, but for those that are `computed`."""
    names = kind.__struct_fields__
    return kind(*(computed[n] if n in computed else plain(getattr(source, n)) for n in names))


def entries(kind: type[_Entry], sources: Iterable[object]) -> list[_Entry]:
    return [entry(kind, source) for source in sources]


def plain(value: object) -> object:
    """The value as JSON has it: text that cannot harm a terminal, and lists."""
    if isinstance(value, str):
        return clean(str(value))
    return list(map(plain, value)) if isinstance(value, tuple) else value


def word(value: int) -> str:
    """An instruction as in a listing."""
    return f"{value:#010x}"
