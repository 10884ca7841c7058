"""What a report says, apart from how a form draws it.

A report gives the same contents in three shapes: blocks for a person, records for line tools, and
findings for what shows faults. A fourth, for programs, is in `documents`. Their text is as in the
object; each form escapes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from scpatch.differ.model import FunctionDiff
    from scpatch.errors import ScpatchError


class Style(Enum):
    """What a piece of text is; a form may give it a colour, and must not depend on that."""

    PLAIN = auto()
    HEADING = auto()
    QUIET = auto()
    OLD = auto()
    NEW = auto()
    CHANGED = auto()
    REFUSED = auto()


class Cell(NamedTuple):
    """A piece of text. `text` may be shortened, `tail` (an offset, a number) never is."""

    text: str
    tail: str = ""
    style: Style = Style.PLAIN
    right: bool = False
    """Whether it is set flush right in its column."""

    @property
    def width(self) -> int:
        return len(self.text) + len(self.tail)


Row = Sequence[Cell]


class Line(NamedTuple):
    """Cells side by side, whole; a line without cells separates blocks."""

    cells: Row = ()
    indent: int = 0


class Paragraph(NamedTuple):
    """Running text, wrapped; all lines but the first are indented by `hanging` more."""

    text: str
    indent: int = 0
    hanging: int = 0
    lead: Cell | None = None
    """Stands before the text, in its first line."""


class Table(NamedTuple):
    """Rows with the same number of cells."""

    rows: Sequence[Row]
    indent: int = 2
    notes: Mapping[int, Sequence[Line | Paragraph]] = {}
    """Index of a row -> what stands below it."""
    limit: int | None = None
    """The number of rows from which a form that a person reads may leave out the rest."""
    columns: Sequence[str] = ()
    """What the columns are, if there is no row of headings. Rows can be filtered by `state`,
    `place`, `function` and `trampoline`."""

    @property
    def titles(self) -> Row:
        """The headings of the columns; empty if they have none."""
        first = self.rows[0] if self.rows else ()
        if self.columns:
            named = zip(self.columns, first, strict=True)
            return [Cell("", name, right=cell.right) for name, cell in named]
        return first if any(cell.style in (Style.HEADING, Style.QUIET) for cell in first) else ()

    @property
    def body(self) -> Iterator[tuple[Row, Sequence[Line | Paragraph]]]:
        """The rows without one of headings, each with what stands below it."""
        start = bool(self.titles) and not self.columns
        for index, row in enumerate(self.rows[start:], start):
            yield row, self.notes.get(index, ())


class Title(NamedTuple):
    """A heading, and what kind of thing it names."""

    text: str
    about: str


class Listing(NamedTuple):
    """The rows of a function that differ."""

    function: FunctionDiff
    legend: bool
    """Whether it is the first of its file, and the meaning of the marks comes before it."""


class Level(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "notice"


class CodePlace(NamedTuple):
    """Where an instruction is. Offsets are in bytes."""

    section_name: str
    offset: int
    """Section offset."""
    function: str
    """Empty if no symbol covers it."""
    function_offset: int
    file_offset: int = -1
    """From the start of the object; -1 if it is not known."""


class Finding(NamedTuple):
    """One thing that somebody may have to act on."""

    level: Level
    title: str
    """The code of a diagnostic, or a few words."""
    file: str
    """The object, as the user named it."""
    where: str
    """The place in the object, `.text+0x1a0 in f`; may be empty."""
    line: str
    """The source line, `file.c:12`, if it is known."""
    message: str
    hint: str = ""
    at: CodePlace | None = None
    """The instruction, if it is about one."""


Block = Line | Paragraph | Table | Title | Listing
Record = Sequence[object]
"""The kind of the record, the file, then fields; docs list them."""

GAP = Line()


class Report(Protocol):
    """The result of one command, for any form."""

    @property
    def command(self) -> str:
        """`scan`"""

    @property
    def failed(self) -> Sequence[ScpatchError]:
        """Why files could not be read or written. A command prints these on stderr, too."""

    def blocks(self) -> Iterable[Block]: ...

    def records(self) -> Iterable[Record]: ...

    def findings(self) -> Iterable[Finding]: ...


def every_record(report: Report) -> Iterator[Record]:
    """The records of a report, and after those one for each file that failed."""
    yield from report.records()
    for error in report.failed:
        yield "failed", error.file, error.where, error.code, error.message


def every_finding(report: Report) -> Iterator[Finding]:
    """The findings of a report, and before those one for each file that failed."""
    for error in report.failed:
        yield Finding(
            Level.ERROR, error.code, error.file, error.where, "", error.message, error.hint
        )
    yield from report.findings()


def legend(meanings: Mapping[str, str]) -> Iterator[Block]:
    """What words of a report mean, one a line; nothing if there are none."""
    if meanings:
        yield GAP
    width = max(map(len, meanings), default=0)
    for word, meaning in meanings.items():
        lead = Cell(f"{word:{width}} ", style=Style.QUIET)
        yield Paragraph(meaning, indent=2, hanging=width + 2, lead=lead)


def note_shown(shown: int, whole: int, noun: str) -> Line:
    """How much a filter leaves: `3 of 12 call sites shown`."""
    return Line((Cell(f"{shown:,} of {whole:,} {noun}s shown", style=Style.QUIET),), indent=2)


def heading(*titles: str, style: Style = Style.HEADING) -> tuple[Cell, ...]:
    """The first row of a table: the first title flush left, the others, of numbers, right."""
    return tuple(Cell("", title, style, right=at > 0) for at, title in enumerate(titles))


def place_cell(name: str, offset: int) -> Cell:
    """`name+0x1a0`"""
    return Cell(name, f"+{offset:#x}")


def number(value: int, *, zero: str = "0") -> Cell:
    return Cell("", f"{value:,}" if value else zero, right=True)
