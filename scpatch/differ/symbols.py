"""Compares symbol tables by name; the order and the indices of symbols do not matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from scpatch.differ.model import FieldChange, Mark, SymbolDiff
from scpatch.differ.names import ObjectNames
from scpatch.differ.pairs import Named, by_name
from scpatch.ppc64.variant import local_entry_offset

_BINDINGS: Final = {0: "LOCAL", 1: "GLOBAL", 2: "WEAK"}
_TYPES: Final = {
    0: "NOTYPE",
    1: "OBJECT",
    2: "FUNC",
    3: "SECTION",
    4: "FILE",
    5: "COMMON",
    6: "TLS",
    10: "IFUNC",
}
_VISIBILITIES: Final = ("DEFAULT", "INTERNAL", "HIDDEN", "PROTECTED")
_RESERVED: Final = {0: "undefined", 0xFFF1: "absolute", 0xFFF2: "common"}


class _Symbol(NamedTuple):
    """A symbol by what it means, each field as it is shown."""

    place: str
    type: str
    binding: str
    visibility: str
    entry: str
    size: str

    def __str__(self) -> str:
        return " ".join(field for field in self if field)


def symbol_diffs(before: ObjectNames, after: ObjectNames, *, same: bool) -> Iterator[SymbolDiff]:
    """The symbols that were removed, changed or added, in this order for each name.

    `same`: the second table begins with the first, so that all else was added.
    """
    if same:
        first = len(before.elf.symbols) if before.elf.symbols is not None else 0
        for name, entry, _ in _symbols(after, first):
            yield SymbolDiff(name, Mark.ADDED, str(entry))
        return
    for old, new in by_name(_symbols(before), _symbols(after), same_first=True):
        if old and new:
            if old.value != new.value:
                fields = zip(_Symbol._fields, old.value, new.value, strict=True)
                changes = tuple(FieldChange(*field) for field in fields if field[1] != field[2])
                yield SymbolDiff(old.name, Mark.WORD, str(new.value), changes)
        elif old:
            yield SymbolDiff(old.name, Mark.REMOVED, str(old.value))
        elif new:
            yield SymbolDiff(new.name, Mark.ADDED, str(new.value))


def _symbols(names: ObjectNames, first: int = 1) -> Iterator[Named[_Symbol]]:
    """The symbols from the index `first` on."""
    section_names = names.section_names
    for index, section, (_, info, other, _, value, size) in names.symbols():
        if index < first:
            continue
        place = _RESERVED.get(section) or section_names.get(section, f"section {section:#x}")
        if section not in _RESERVED:
            place += f"+{value:#x}"
        elif value:
            place += f" {value:#x}"
        entry = local_entry_offset(other)
        symbol = _Symbol(
            place,
            _TYPES.get(info & 0xF, f"type {info & 0xF}"),
            _BINDINGS.get(info >> 4, f"binding {info >> 4}"),
            _VISIBILITIES[other & 3] if other & 3 else "",
            f"local entry +{entry}" if entry else (f"st_other {other:#x}" if other >> 2 else ""),
            f"size {size}",
        )
        yield Named(names.symbol(index), symbol, symbol)
