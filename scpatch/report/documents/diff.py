"""The document of `diff`. Functions are made one by one: a big diff is never held whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, field

from scpatch.differ.model import Mark
from scpatch.ppc64.reloc_names import name as relocation_name
from scpatch.report.documents import (
    SCHEMA,
    Document,
    Entry,
    Natural,
    Word,
    about,
    entries,
    entry,
    natural,
    plain,
)
from scpatch.report.documents.sites import SectionName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scpatch.differ.model import (
        FunctionDiff,
        Instruction,
        ObjectDiff,
        Range,
        Reference,
        Row,
        SectionDiff,
    )


class Change(Entry):
    name: Annotated[str, about("Name of the field.")]
    before: str
    after: str


class Relocation(Entry):
    type: Annotated[str, about("Relocation type without R_PPC64_.")]
    symbol: Annotated[str, about("Symbol name; the section's for a section symbol.")]
    addend: int
    at: Annotated[int, about("Offset from the word; in relocations of data, section offset.")]


class InstructionEntry(Entry):
    offset: Annotated[int, natural("Section offset.")]
    function_offset: Natural
    word: Word
    line: Annotated[str, about("Assembly, with symbols in place of relocated operands.")] = field(
        name="text"
    )
    relocations: list[Relocation]


class RowEntry(Entry):
    mark: Annotated[
        Mark,
        about("context, relocation, word, added, removed, refused, checked and unchanged"),
    ]
    before: InstructionEntry | None
    after: InstructionEntry | None
    note: str


class RangeEntry(Entry):
    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    start: Natural = field(name="offset")
    size: Natural


class FunctionEntry(Entry):
    name: Annotated[str, about("Empty for code before the first symbol.")]
    before: RangeEntry | None
    after: RangeEntry | None
    line: str
    note: str
    changed: Annotated[int, natural("Words whose value or relocation differs.")]
    added: Annotated[int, natural("Words.")]
    removed: Annotated[int, natural("Words.")]
    sites: Annotated[int, natural("Call sites.")]
    refused: Annotated[int, natural("Refused call sites.")]
    hunks: list[list[RowEntry]]


class SectionEntry(Entry):
    name: str
    before: Natural | None = field(name="index_before")
    after: Natural | None = field(name="index_after")
    size_before: Natural | None
    size_after: Natural | None
    changed_bytes: Annotated[int, natural("Bytes that differ in the part that both have.")]
    fields: list[Change]
    relocations_removed: list[Relocation]
    relocations_added: list[Relocation]


class SymbolEntry(Entry):
    name: str
    mark: Literal["+", "-", "*"]
    what: Annotated[str, about("Place, type, binding, visibility, local entry, size.")]
    fields: list[Change]


class RefusedEntry(Entry):
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
    header: list[Change]
    sections: list[SectionEntry]
    symbols: list[SymbolEntry]
    refused: list[RefusedEntry]
    functions: list[FunctionEntry]


class DiffDocument(Document):
    command: Literal["diff"]
    files: Annotated[list[ComparedObject], about("Empty if the files are the same.")]


def diff_document(files: Sequence[tuple[str, str, ObjectDiff]]) -> DiffDocument:
    compared = (_compared(*file) for file in files)
    return entry(DiffDocument, schema=SCHEMA, command="diff", files=compared)


def _compared(before: str, after: str, diff: ObjectDiff) -> ComparedObject:
    return entry(
        ComparedObject,
        diff,
        before=plain(before),
        after=plain(after),
        header=entries(Change, diff.header),
        sections=list(map(_section, diff.sections)),
        symbols=[
            entry(SymbolEntry, symbol, fields=entries(Change, symbol.fields))
            for symbol in diff.symbols
        ],
        refused=entries(RefusedEntry, diff.refused),
        functions=map(_function, diff.functions),
    )


def _section(section: SectionDiff) -> SectionEntry:
    found = section.references
    return entry(
        SectionEntry,
        section,
        fields=entries(Change, section.fields),
        relocations_removed=_relocations(found.removed if found else ()),
        relocations_added=_relocations(found.added if found else ()),
    )


def _relocations(references: Iterable[Reference]) -> list[Relocation]:
    return [
        entry(Relocation, reference, type=relocation_name(reference.type))
        for reference in references
    ]


def _function(function: FunctionDiff) -> FunctionEntry:
    return entry(
        FunctionEntry,
        function,
        name=plain(function.range.name),
        before=_range(function.before),
        after=_range(function.after),
        hunks=_hunks(function),
    )


def _range(code: Range | None) -> RangeEntry | None:
    return None if code is None else entry(RangeEntry, code, size=code.end - code.start)


def _hunks(function: FunctionDiff) -> Iterator[list[RowEntry]]:
    for hunk in function.hunks():
        yield list(map(_row, hunk.rows))


def _row(row: Row) -> RowEntry:
    return entry(RowEntry, row, before=_instruction(row.before), after=_instruction(row.after))


def _instruction(instruction: Instruction | None) -> InstructionEntry | None:
    if instruction is None:
        return None
    return entry(
        InstructionEntry,
        instruction,
        word="0x" + instruction.digits,
        relocations=_relocations(instruction.relocations),
    )
