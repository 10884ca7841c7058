"""The records of `diff`, for line tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scpatch.differ.model import FieldChange, FunctionDiff, Instruction, Mark, ObjectDiff
from scpatch.report.blocks import Record
from scpatch.report.filters import Filter
from scpatch.report.words import place


def records_of(before: str, diff: ObjectDiff, shown: Filter) -> Iterator[Record]:
    """The records of one comparison, without the name of the second file."""
    state = "same" if diff.same else "layout" if diff.only_layout else "different"
    yield "file", before, state, diff.kind, diff.strategy
    for change in diff.header:
        yield "header", change.name, change.before, change.after
    for function in shown.code(diff.functions):
        yield from _function_records(function)
    for section in diff.sections:
        sizes = ("" if size is None else size for size in (section.size_before, section.size_after))
        yield "section", section.name, *sizes, section.changed_bytes, changed_fields(section.fields)
        for mark, entry in section.relocations:
            where = place(section.name, entry.at)
            yield "relocation", str(mark), where, entry.type_name, entry.target
    for symbol in diff.symbols:
        yield "symbol", str(symbol.mark), symbol.name, symbol.what, changed_fields(symbol.fields)
    for site in shown.calls(diff.refused):
        yield "refused", site.place, site.code, site.detail
    for name, total in [*diff.by_section.items(), ("total", diff.total)]:
        yield "summary", name, *total


def _function_records(function: FunctionDiff) -> Iterator[Record]:
    """One record for the function, and one for each row that differs."""
    where = place(function.range.section_name, function.range.start)
    yield "function", function.name, where, *function.counts[1:], function.line, function.note
    for row in (row for hunk in function.hunks() for row in hunk):
        instruction = row.after or row.before
        code = function.range if row.after else function.before
        if instruction and code and row.mark not in (Mark.CONTEXT, Mark.CHECKED):
            spot = place(code.name, instruction.function_offset) if code.name else ""
            yield (
                *("code", str(row.mark), place(code.section_name, instruction.offset), spot),
                *(*_side(row.before), *_side(row.after), row.note),
            )


def _side(instruction: Instruction | None) -> tuple[str, str, str]:
    """The word, text and relocations."""
    if instruction is None:
        return "", "", ""
    relocations = (f"{entry.kind}:{entry.target}" for entry in instruction.relocations)
    return instruction.digits, instruction.text, " ".join(relocations)


def changed_fields(fields: Sequence[FieldChange]) -> str:
    return ", ".join(f"{f.name} {f.before or '-'} -> {f.after or '-'}" for f in fields)
