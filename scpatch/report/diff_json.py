"""The diff report as JSON; written function by function, so that a big diff is never held whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from scpatch.differ.model import (
    FieldChange,
    FunctionDiff,
    Hunk,
    Instruction,
    ObjectDiff,
    Range,
    Reference,
    Row,
    SectionDiff,
    SymbolDiff,
)
from scpatch.ppc64.reloc_names import name as relocation_name
from scpatch.report.diff_plain import text, word
from scpatch.report.documents import SCHEMA
from scpatch.report.term import clean


def print_json(diffs: Sequence[tuple[str, str, ObjectDiff]]) -> None:
    write = sys.stdout.write
    write(f'{{"schema": {json.dumps(SCHEMA)}, "command": "diff", "files": [')
    for index, (before, after, diff) in enumerate(diffs):
        head = json.dumps(_head(before, after, diff))
        write(("," if index else "") + "\n" + head[:-1] + ', "functions": [')
        for number, function in enumerate(diff.functions):
            write(("," if number else "") + "\n " + json.dumps(_function(function)))
        write("]}")
    write("]}\n")


def _head(before: str, after: str, diff: ObjectDiff) -> dict[str, object]:
    return {
        "before": clean(before),
        "after": clean(after),
        "same": diff.same,
        "only_layout": diff.only_layout,
        "kind": diff.kind,
        "strategy": diff.strategy,
        "header": [_change(one) for one in diff.header],
        "sections": [_section(one) for one in diff.sections],
        "symbols": [_symbol(one) for one in diff.symbols],
        "refused": [
            {"place": clean(one.place), "code": one.code, "detail": clean(one.detail)}
            for one in diff.refused
        ],
    }


def _change(one: FieldChange) -> dict[str, str]:
    return {"name": one.name, "before": clean(one.before), "after": clean(one.after)}


def _section(one: SectionDiff) -> dict[str, object]:
    removed, added = (one.references.removed, one.references.added) if one.references else ((), ())
    return {
        "name": clean(one.name),
        "index_before": one.before,
        "index_after": one.after,
        "size_before": one.size_before,
        "size_after": one.size_after,
        "changed_bytes": one.changed_bytes,
        "fields": [_change(field) for field in one.fields],
        "relocations_removed": [_reference(found) for found in removed],
        "relocations_added": [_reference(found) for found in added],
    }


def _symbol(one: SymbolDiff) -> dict[str, object]:
    return {
        "name": clean(one.name),
        "mark": str(one.mark),
        "what": clean(one.what),
        "fields": [_change(field) for field in one.fields],
    }


def _function(one: FunctionDiff) -> dict[str, object]:
    return {
        "name": clean(one.range.name),
        "before": _range(one.before),
        "after": _range(one.after),
        "line": clean(one.line),
        "note": clean(one.note),
        "changed": one.changed,
        "added": one.added,
        "removed": one.removed,
        "sites": one.sites,
        "refused": one.refused,
        "hunks": [_hunk(hunk) for hunk in one.hunks()],
    }


def _range(one: Range | None) -> dict[str, object] | None:
    if one is None:
        return None
    return {
        "section": clean(one.section_name),
        "section_index": one.section,
        "offset": one.start,
        "size": one.end - one.start,
    }


def _hunk(hunk: Hunk) -> list[dict[str, object]]:
    return [_row(row) for row in hunk.rows]


def _row(row: Row) -> dict[str, object]:
    return {
        "mark": str(row.mark),
        "before": _instruction(row.before),
        "after": _instruction(row.after),
        "note": clean(row.note),
    }


def _instruction(one: Instruction | None) -> dict[str, object] | None:
    if one is None:
        return None
    return {
        "offset": one.offset,
        "function_offset": one.function_offset,
        "word": "0x" + word(one),
        "text": clean(text(one)),
        "relocations": [_reference(found) for found in one.relocations],
    }


def _reference(one: Reference) -> dict[str, object]:
    """`at` counts from the word, for data from the start of the section."""
    return {
        "type": relocation_name(one.type),
        "symbol": clean(one.symbol),
        "addend": one.addend,
        "at": one.at,
    }
