"""The document of `diff`. Functions are made one by one: a big diff is never held whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, field

from scpatch.differ.model import Mark
from scpatch.report.documents import (
    SCHEMA,
    Document,
    Entry,
    FailedFile,
    FileName,
    Natural,
    SectionName,
    Word,
    about,
    entry,
    failures,
    natural,
)

if TYPE_CHECKING:
    from scpatch.differ.model import FunctionDiff
    from scpatch.report.diff import DiffReport


class ChangedField(Entry):
    name: str
    before: str
    after: str


class RelocationEntry(Entry):
    type_name: Annotated[str, about("Without R_PPC64_.")] = field(name="type")
    symbol: Annotated[str, about("Symbol name; the section's for a section symbol.")]
    addend: int
    at: Annotated[int, about("Offset from the word; in relocations of data, section offset.")]


class InstructionEntry(Entry):
    offset: Annotated[int, natural("Section offset.")]
    function_offset: Natural
    code: Word = field(name="word")
    text: Annotated[str, about("Assembly, with symbols for relocated operands.")]
    relocations: list[RelocationEntry]


class ComparedRow(Entry):
    mark: Annotated[
        Mark, about("context, relocation, word, added, removed, refused, checked and unchanged")
    ]
    before: InstructionEntry | None
    after: InstructionEntry | None
    note: str


class RangeEntry(Entry):
    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    start: Natural = field(name="offset")
    size: Natural


class ComparedFunction(Entry):
    name: Annotated[str, about("Empty for code before the first symbol.")]
    before: RangeEntry | None
    after: RangeEntry | None
    line: str
    note: str
    changed: Annotated[int, natural("Words whose value or relocation differs.")]
    added: Annotated[int, natural("Words.")]
    removed: Annotated[int, natural("Words.")]
    sites: Annotated[int, natural("CallEntry sites.")]
    refused: Annotated[int, natural("Refused call sites.")]
    hunks: list[list[ComparedRow]]


class ComparedSection(Entry):
    name: str
    before: Natural | None = field(name="index_before")
    after: Natural | None = field(name="index_after")
    size_before: Natural | None
    size_after: Natural | None
    changed_bytes: Annotated[int, natural("Bytes that differ in the part that both have.")]
    fields: list[ChangedField]
    relocations_removed: list[RelocationEntry]
    relocations_added: list[RelocationEntry]


class ComparedSymbol(Entry):
    name: str
    mark: Literal["+", "-", "*"]
    what: Annotated[str, about("Place, type, binding, visibility, local entry, size.")]
    fields: list[ChangedField]


class Refusal(Entry):
    place: str
    code: Annotated[str, Meta(pattern="^SCP2[0-9]{2}$")]
    detail: str


class ComparedObject(Entry):
    before: str
    after: str
    same: Annotated[bool, about("The same bytes.")]
    only_layout: Annotated[bool, about("Only file offsets or padding between sections differ.")]
    kind: str
    strategy: Annotated[str, about("How the second came from the first, if that is known.")]
    header: list[ChangedField]
    sections: list[ComparedSection]
    symbols: list[ComparedSymbol]
    refused: list[Refusal]
    functions: list[ComparedFunction]


class DiffDocument(Document):
    command: Literal["diff"]
    files: Annotated[list[ComparedObject], about("Empty if the files are the same.")]
    alone: Annotated[list[FileName], about("Files that only one of two folders has.")]
    failed: list[FailedFile]


def document(report: DiffReport) -> DiffDocument:
    """The document of what is shown; with `stat`, functions have no hunks."""
    shown = report.shown
    compared = (
        entry(
            ComparedObject,
            diff,
            before=before,
            after=after,
            refused=shown.calls(diff.refused),
            functions=map(partial(_function, code=not report.stat), shown.code(diff.functions)),
        )
        for before, after, diff in report.files
    )
    fields = {"schema": SCHEMA, "command": "diff", "files": compared}
    alone = [str(path) for path, _ in report.alone]
    return entry(DiffDocument, **fields, alone=alone, failed=failures(report.failed))


def _function(function: FunctionDiff, *, code: bool) -> ComparedFunction:
    hunks = _hunks(function) if code else []
    return entry(ComparedFunction, function, **function.counts._asdict(), hunks=hunks)


def _hunks(function: FunctionDiff) -> Iterator[list[ComparedRow]]:
    for hunk in function.hunks():
        yield [entry(ComparedRow, row) for row in hunk]
