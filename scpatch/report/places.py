"""Where calls are, in the words and cells of reports."""

from __future__ import annotations

from typing import Protocol

from scpatch.report.blocks import Cell, CodePlace, place_cell
from scpatch.report.words import place, spot


class Call(Protocol):
    """A call site, as the rewriter or the verifier describes it."""

    @property
    def section_name(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def function(self) -> str: ...
    @property
    def function_offset(self) -> int: ...


def place_fields(call: Call) -> tuple[str, str]:
    """For a record: `.text+0x1a0`, and `f+0x40`, which is empty if no symbol covers the call."""
    return place(call.section_name, call.offset), spot(call.function, call.function_offset)


def place_cells(call: Call) -> tuple[Cell, Cell]:
    """The same for a table."""
    around = place_cell(call.function, call.function_offset) if call.function else Cell("")
    return place_cell(call.section_name, call.offset), around


def place_text(call: Call) -> str:
    """`.text+0x1a0 in f+0x40`"""
    return " in ".join(filter(None, place_fields(call)))


def code_place(call: Call, file_offset: int = -1) -> CodePlace:
    """The same for a finding; `file_offset` as in `CodePlace`."""
    return CodePlace(
        call.section_name, call.offset, call.function, call.function_offset, file_offset
    )
