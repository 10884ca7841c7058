"""What a comparison of two objects finds. Data only; every form of the report draws it.

Offsets are section offsets in bytes, `function_offset` counts from the start of the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple, Self

from scpatch.ppc64.reloc_names import name
from scpatch.sites.model import Site


class Mark(StrEnum):
    """What a row means; printed in the gutter, so that nothing depends on colour."""

    CONTEXT = " "
    RELOCATION = "~"
    WORD = "*"
    ADDED = "+"
    REMOVED = "-"
    REFUSED = "!"
    """A call site that rewriting leaves as it is."""
    CHECKED = "="
    """A call site that needs no change and has none."""


class Role(StrEnum):
    """What a token of an instruction's text is."""

    MNEMONIC = "mnemonic"
    OPERAND = "operand"
    SYMBOL = "symbol"


class Token(NamedTuple):
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class NamedRelocation:
    """A relocation by its meaning: names instead of indices."""

    type: int
    symbol: str
    """The symbol's name; the section's for a section symbol."""
    addend: int
    at: int = 0
    """Where it applies: offset from the start of its word, for data from that of the section."""

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
        """`REL24`; `ADDR16+2` if it does not apply to the start of the word."""
        return self.type_name + (f"+{self.at}" if self.at else "")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One word of code. At the end of a section of odd size it has less than 4 bytes."""

    offset: int
    function_offset: int
    word: int
    tokens: tuple[Token, ...]
    relocations: tuple[NamedRelocation, ...] = ()
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
    def text(self) -> str:
        """`ld r2,24(r1)`"""
        mnemonic, *rest = (token.text for token in self.tokens)
        return f"{mnemonic} {''.join(rest)}".rstrip()


@dataclass(frozen=True, slots=True)
class CodeRow:
    """A pair of instructions that belong together, or one alone."""

    mark: Mark
    before: Instruction | None
    after: Instruction | None
    note: str = ""

    @property
    def relocations_differ(self) -> bool:
        before = self.before.relocations if self.before else ()
        return before != (self.after.relocations if self.after else ())


Hunk = Sequence[CodeRow]
"""Rows that follow each other. Between two hunks of a function rows are left out."""


@dataclass(frozen=True, slots=True)
class Range:
    """The code from one function symbol to the next, with the padding between them."""

    section: int
    section_name: str
    name: str
    """Empty for code before the first symbol."""
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def words(self) -> int:
        """How many there are; at its end there may be less than 4 bytes of one."""
        return (self.size + 3) // 4


class Totals(NamedTuple):
    """Sums over functions: words of code, and call sites."""

    functions: int = 0
    """How many differ."""
    changed: int = 0
    """Words that differ, by value or relocation, among those that belong together."""
    added: int = 0
    removed: int = 0
    sites: int = 0
    refused: int = 0

    @classmethod
    def of(cls, functions: Iterable[FunctionDiff]) -> Totals:
        return cls(*map(sum, zip(cls(), *(function.counts for function in functions), strict=True)))


@dataclass(frozen=True, slots=True)
class FunctionDiff:
    """A function that differs, or that holds a refused call site."""

    before: Range | None
    after: Range | None
    counts: Totals
    note: str
    """`stub for 3 call sites`, `added`, `removed`, `moved from .text.f`; or empty."""
    line: str
    """`FILE:LINE` if DWARF has it."""
    hunks: Callable[[], Iterable[Hunk]]
    """Makes the hunks when they are needed: a big diff is never held whole."""

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        """For another process: with all hunks, pickled until they are needed."""
        from pickle import dumps, loads

        hunks = partial(loads, dumps(list(self.hunks())))
        return type(self), (self.before, self.after, self.counts, self.note, self.line, hunks)

    @property
    def range(self) -> Range:
        code = self.after or self.before
        assert code is not None
        return code

    @property
    def name(self) -> str:
        return self.range.name


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of a header or a symbol."""

    name: str
    before: str
    after: str

    @classmethod
    def between(
        cls, names: Iterable[str], before: Iterable[str], after: Iterable[str]
    ) -> tuple[Self, ...]:
        """The changes of fields with these names."""
        fields = zip(names, before, after, strict=True)
        return tuple(cls(*field) for field in fields if field[1] != field[2])


@dataclass(frozen=True, slots=True)
class SectionDiff:
    """A section that was added, removed or changed. What it is without is None."""

    name: str
    before: int | None
    """Section index."""
    after: int | None
    size_before: int | None
    size_after: int | None
    changed_bytes: int
    """Bytes that differ in the part that both have."""
    fields: tuple[FieldChange, ...] = ()
    relocations_removed: tuple[NamedRelocation, ...] = ()
    relocations_added: tuple[NamedRelocation, ...] = ()
    """Of allocated data. `at` of each is a section offset."""

    @property
    def relocations(self) -> tuple[tuple[Mark, NamedRelocation], ...]:
        return (
            *((Mark.REMOVED, relocation) for relocation in self.relocations_removed),
            *((Mark.ADDED, relocation) for relocation in self.relocations_added),
        )


@dataclass(frozen=True, slots=True)
class SymbolDiff:
    """A symbol that was added, removed (no fields) or changed."""

    name: str
    mark: Mark
    what: str
    """Its place and properties: `.text+0x40 FUNC WEAK HIDDEN size 8`."""
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectDiff:
    """All that differs between two objects."""

    same: bool
    """The files are the same, byte for byte."""
    kind: str = ""
    """`ET_REL ppc64le ELFv2`, `kernel module ppc64 ELFv2`: ppc64 is the big-endian one."""
    strategy: str = ""
    """How the second came from the first, if that is known."""
    header: tuple[FieldChange, ...] = ()
    sections: tuple[SectionDiff, ...] = ()
    symbols: tuple[SymbolDiff, ...] = ()
    functions: tuple[FunctionDiff, ...] = ()
    refused: tuple[Site, ...] = ()
    """The call sites of the second object that rewriting leaves as they are."""

    @property
    def only_layout(self) -> bool:
        """The bytes differ, but nothing that a linker would see: file offsets, or padding."""
        changes = (self.header, self.sections, self.symbols, self.total.functions)
        return not self.same and not any(changes)

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
