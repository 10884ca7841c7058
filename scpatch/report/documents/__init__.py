"""The JSON documents as types: what `--format json` prints, and what the schema is made from.

Each command has a module of its name here, with `document(report)`. A field is called as the
attribute of the model that it shows, unless JSON has another name for it. Only what needs JSON
imports this package: the import of msgspec takes time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Final, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from scpatch.errors import ScpatchError
from scpatch.report.blocks import Report
from scpatch.report.words import clean
from scpatch.verifier.verdict import Result, worst

SCHEMA: Final = "scpatch/2"
"""Goes into every document; the number grows with every change of the documents."""


def about(description: str) -> Meta:
    return Meta(description=description)


def natural(description: str) -> Meta:
    return Meta(ge=0, description=description)


def listed(name: str) -> Meta:
    """A string that is one of those that the schema lists as `name`."""
    return Meta(extra_json_schema={"$ref": f"#/$defs/{name}"})


Natural = Annotated[int, Meta(ge=0)]
Word = Annotated[str, Meta(pattern="^0x([0-9a-f]{2}){1,4}$")]
SectionName = Annotated[str, about("Section name.")]
FileName = Annotated[str, about("The file; a member is ARCHIVE(MEMBER).")]
Applied = Annotated[list[str], about("The strategies that it says it was rewritten with.")]
SecondOpinion = Annotated[
    str, about("The library that read the files too, and its version; empty if none did.")
]
Disassembler = Annotated[
    str, about("What decoded the instructions, and its version; empty if nothing did.")
]
WorstResult = Annotated[Result, about("The worst of the files; what failed is not shown.")]


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """An object of a document. No field is left out; one without a value is empty or null."""


class FailedFile(Entry):
    file: FileName
    where: Annotated[str, about("The place in the file; may be empty.")]
    code: Annotated[str, Meta(pattern="^SCP[0-9]{3}$")]
    message: str


def failures(errors: Iterable[ScpatchError]) -> list[FailedFile]:
    """The entries of files that could not be read or written."""
    return [entry(FailedFile, error) for error in errors]


def worst_of(results: Iterable[Result], failed: Sequence[ScpatchError]) -> Result:
    """The worst verdict; of a file that failed nothing is shown."""
    return worst([*results, *(Result.NOT_SHOWN for _ in failed)])


class Document(Entry):
    schema: Annotated[Literal["scpatch/2"], about("The version of the documents.")]


def document_of(report: Report) -> Document:
    """The document of a command's report."""
    document: Document = import_module(f"{__name__}.{report.command}").document(report)
    return document


_Entry = TypeVar("_Entry", bound=Entry)


def entry(kind: type[_Entry], source: object = None, /, **computed: object) -> _Entry:
    """An entry whose fields are the attributes of `source`, but for those that are `computed`."""
    return kind(
        *(
            _value(inner, computed[name] if name in computed else getattr(source, name))
            for name, inner in _fields(kind).items()
        )
    )


@cache
def _fields(kind: type[Entry]) -> dict[str, type[Entry] | None]:
    """The fields in order, each with the kind of entry that it holds, alone or in a list."""
    hints = get_type_hints(kind)
    return {name: _inner(hints[name]) for name in kind.__struct_fields__}


def _inner(hint: object) -> type[Entry] | None:
    if isinstance(hint, type) and issubclass(hint, Entry):
        return hint
    return next((inner for part in get_args(hint) if (inner := _inner(part))), None)


def _value(kind: type[Entry] | None, value: object) -> object:
    """The value as JSON has it: entries and lists, and text that cannot harm a terminal."""
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, list) or type(value) is tuple:
        return [_value(kind, item) for item in value]
    if kind is None or value is None or isinstance(value, Entry) or hasattr(value, "__next__"):
        return value
    return entry(kind, value)
