"""The diff report as lines of tab-separated fields, for grep, cut and awk.

Each line begins with its kind and the name of the second file. Only what differs is there; the
kinds and their fields are described in docs/reference/json.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scpatch.differ.model import (
    FieldChange,
    FunctionDiff,
    Instruction,
    Mark,
    ObjectDiff,
    Reference,
    Row,
)
from scpatch.ppc64.reloc_names import name as relocation_name
from scpatch.report.diff_summary import Totals, by_section
from scpatch.report.documents import print_lines

Line = Sequence[object]


def print_plain(diffs: Sequence[tuple[str, str, ObjectDiff]]) -> None:
    for before, after, diff in diffs:
        print_lines((kind, after, *fields) for kind, *fields in lines(before, diff))


def lines(before: str, diff: ObjectDiff) -> Iterator[Line]:
    """The lines of one comparison, without the name of the second file."""
    state = "same" if diff.same else "layout" if diff.only_layout else "different"
    yield "file", before, state, diff.kind, diff.strategy
    for change in diff.header:
        yield "header", change.name, change.before, change.after
    for function in diff.functions:
        yield from _function(function)
    yield from _tables(diff)
    for site in diff.refused:
        yield "refused", site.place, site.code, site.detail
    for section, total in [*by_section(diff).items(), ("total", Totals.of(diff.functions))]:
        yield (
            "summary",
            section,
            total.functions,
            total.changed,
            total.added,
            total.removed,
            total.sites,
            total.refused,
        )


def _function(function: FunctionDiff) -> Iterator[Line]:
    one = function.range
    place = f"{one.section_name}+{one.start:#x}"
    counts = (function.changed, function.added, function.removed, function.sites, function.refused)
    yield "function", one.name, place, *counts, function.line, function.note
    for hunk in function.hunks():
        for row in hunk.rows:
            if row.mark not in (Mark.CONTEXT, Mark.CHECKED):
                yield _row(function, row)


def _row(function: FunctionDiff, row: Row) -> Line:
    """Mark, place, function, the two sides (each word, text and relocations), note."""
    first = row.after or row.before
    assert first is not None
    one = function.range if row.after else function.before
    assert one is not None
    place = f"{one.section_name}+{first.offset:#x}"
    spot = f"{one.name}+{first.function_offset:#x}" if one.name else ""
    return "code", str(row.mark), place, spot, *_side(row.before), *_side(row.after), row.note


def _side(one: Instruction | None) -> tuple[str, str, str]:
    if one is None:
        return "", "", ""
    return word(one), text(one), " ".join(map(reference_text, one.relocations))


def word(one: Instruction) -> str:
    """The word in hexadecimal, two digits a byte."""
    return f"{one.word:0{2 * one.size}x}"


def text(one: Instruction) -> str:
    """`ld r2,24(r1)`"""
    mnemonic, *rest = (segment.text for segment in one.text)
    return f"{mnemonic} {''.join(rest)}".rstrip()


def reference_text(one: Reference) -> str:
    """`REL24:__SCT__x`, with the place where that is not the start of the word."""
    return f"{relocation_name(one.type)}{f'+{one.at}' if one.at else ''}:{one.target}"


def _tables(diff: ObjectDiff) -> Iterator[Line]:
    for section in diff.sections:
        sizes = ("" if n is None else n for n in (section.size_before, section.size_after))
        yield "section", section.name, *sizes, section.changed_bytes, _fields(section.fields)
        if found := section.references:
            for mark, ones in ((Mark.REMOVED, found.removed), (Mark.ADDED, found.added)):
                for one in ones:
                    kind = relocation_name(one.type)
                    yield "relocation", str(mark), f"{section.name}+{one.at:#x}", kind, one.target
    for symbol in diff.symbols:
        yield "symbol", str(symbol.mark), symbol.name, symbol.what, _fields(symbol.fields)


def _fields(changes: Sequence[FieldChange]) -> str:
    return ", ".join(f"{one.name} {one.before or '-'} -> {one.after or '-'}" for one in changes)
