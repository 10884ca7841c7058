"""What a comparison of two objects finds. Data only; every form of the diff report draws it.

Offsets are section offsets in bytes, `function_offset` counts from the start of the function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from scpatch.ppc64.reloc_names import name


class Mark(StrEnum):
    """What a row means; printed in the gutter, so that nothing depends on colour."""

    meaning: str

    def __new__(cls, mark: str, meaning: str) -> Self:
        member = str.__new__(cls, mark)
        member._value_ = mark
        member.meaning = meaning
        return member

    CONTEXT = " ", "unchanged"
    RELOCATION = "~", "relocation"
    WORD = "*", "word"
    ADDED = "+", "added"
    REMOVED = "-", "removed"
    REFUSED = "!", "refused"
    """A call site that rewriting leaves as it is."""
    CHECKED = "=", "checked, unchanged"
    """A call site that needs no change and has none."""


class Kind(StrEnum):
    """What a segment of an instruction's text is."""

    MNEMONIC = "mnemonic"
    OPERAND = "operand"
    SYMBOL = "symbol"


@dataclass(frozen=True, slots=True)
class Segment:
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A relocation by what it means: names instead of indices."""

    type: int
    symbol: str
    """The symbol's name; the section's for a section symbol."""
    addend: int
    at: int = 0
    """Offset of its place: from the word that it lies on, or in the section."""

    @property
    def target(self) -> str:
        """`name`, `name+0x10`"""
        if not self.addend:
            return self.symbol
        return f"{self.symbol}{'-' if self.addend < 0 else '+'}{abs(self.addend):#x}"

    @property
    def order(self) -> tuple[int, int, str, int]:
        """What relocations are sorted by."""
        return self.at, self.type, self.symbol, self.addend

    @property
    def type_name(self) -> str:
        """`REL24`"""
        return name(self.type)

    @property
    def kind(self) -> str:
        """`REL24`, with the distance if its place is not the start of the word: `ADDR16+2`."""
        return self.type_name + (f"+{self.at}" if self.at else "")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One word of code; at the end of a section of odd size it has fewer than 4 bytes."""

    offset: int
    function_offset: int
    word: int
    text: tuple[Segment, ...]
    relocations: tuple[Reference, ...] = ()
    size: int = 4

    @property
    def digits(self) -> str:
        """The word in hexadecimal, two digits a byte."""
        return f"{self.word:0{2 * self.size}x}"

    @property
    def code(self) -> str:
        """The word as a number: `0x60000000`."""
        return f"0x{self.digits}"

    @property
    def line(self) -> str:
        """`ld r2,24(r1)`"""
        mnemonic, *rest = (segment.text for segment in self.text)
        return f"{mnemonic} {''.join(rest)}".rstrip()


@dataclass(frozen=True, slots=True)
class Row:
    """A pair of instructions that belong together, or one alone."""

    mark: Mark
    before: Instruction | None
    after: Instruction | None
    note: str = ""

    @property
    def relocations_differ(self) -> bool:
        one = self.before.relocations if self.before else ()
        return one != (self.after.relocations if self.after else ())


@dataclass(frozen=True, slots=True)
class Hunk:
    """Rows that follow each other; between two hunks of a function rows are left out."""

    rows: tuple[Row, ...]


class Hunks(Protocol):
    """Makes the hunks of a function when they are asked for: a big diff is never held whole."""

    def __call__(self) -> Iterator[Hunk]: ...


@dataclass(frozen=True, slots=True)
class Range:
    """The code from one function symbol to the next, padding behind it included."""

    section: int
    section_name: str
    name: str
    """Empty for code in front of the first symbol."""
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class FunctionDiff:
    """A function with differences, or with a refused call site."""

    before: Range | None
    after: Range | None
    changed: int
    """Words that differ, by value or relocation, among those that belong together."""
    added: int
    removed: int
    sites: int
    """Call sites in it."""
    refused: int
    note: str
    """`stub for 3 call sites`, `added`, `removed`, `moved from .text.f`; or empty."""
    line: str
    """`FILE:LINE` where DWARF has it."""
    hunks: Hunks

    @property
    def range(self) -> Range:
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def name(self) -> str:
        return self.range.name

    @property
    def differs(self) -> bool:
        return bool(self.changed or self.added or self.removed or self.note)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over functions: words of code, and call sites."""

    functions: int
    """How many differ."""
    changed: int
    added: int
    removed: int
    sites: int
    refused: int

    @classmethod
    def of(cls, functions: Sequence[FunctionDiff]) -> Totals:
        return cls(
            sum(function.differs for function in functions),
            sum(function.changed for function in functions),
            sum(function.added for function in functions),
            sum(function.removed for function in functions),
            sum(function.sites for function in functions),
            sum(function.refused for function in functions),
        )


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of a header or a symbol."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class SectionDiff:
    """A section that was added, removed or changed (sizes None where it does not exist)."""

    name: str
    before: int | None
    """Section index."""
    after: int | None
    size_before: int | None
    size_after: int | None
    changed_bytes: int
    """Bytes that differ in the part that both have."""
    fields: tuple[FieldChange, ...] = ()
    relocations_removed: tuple[Reference, ...] = ()
    relocations_added: tuple[Reference, ...] = ()
    """Of allocated data. `at` of each is a section offset."""

    @property
    def relocations(self) -> tuple[tuple[Mark, Reference], ...]:
        return (
            *((Mark.REMOVED, reference) for reference in self.relocations_removed),
            *((Mark.ADDED, reference) for reference in self.relocations_added),
        )


@dataclass(frozen=True, slots=True)
class SymbolDiff:
    """A symbol that was added, removed (no fields) or changed."""

    name: str
    mark: Mark
    what: str
    """Where it is and what it is: `.text+0x40 FUNC WEAK HIDDEN size 8`."""
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedSite:
    place: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ObjectDiff:
    """All that differs between two objects."""

    same: bool
    """The files are the same, byte for byte."""
    kind: str
    """`ET_REL ppc64le ELFv2`, `kernel module ...`"""
    strategy: str
    """How the second came from the first, where that is known; else empty."""
    header: tuple[FieldChange, ...]
    sections: tuple[SectionDiff, ...]
    symbols: tuple[SymbolDiff, ...]
    functions: Sequence[FunctionDiff]
    refused: tuple[RefusedSite, ...]

    @property
    def only_layout(self) -> bool:
        """The bytes differ, but nothing that a linker would see: file offsets, or padding."""
        changes = (self.header, self.sections, self.symbols)
        return not self.same and not any(changes) and not any(f.differs for f in self.functions)

    @property
    def total(self) -> Totals:
        return Totals.of(self.functions)

    @property
    def by_section(self) -> Mapping[str, Totals]:
        """Section name -> totals of its functions, in the order of the second object."""
        sections: dict[str, list[FunctionDiff]] = {}
        for function in self.functions:
            sections.setdefault(function.range.section_name, []).append(function)
        return {name: Totals.of(functions) for name, functions in sections.items()}
