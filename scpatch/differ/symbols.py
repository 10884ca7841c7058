"""Compares symbol tables by name; the order and the indices of symbols do not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from scpatch.differ.model import FieldChange, Mark, SymbolDiff
from scpatch.differ.names import Names
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


class _Entry(NamedTuple):
    """A symbol by what it means, each field as it is shown."""

    place: str
    type: str
    binding: str
    visibility: str
    entry: str
    size: str

    def __str__(self) -> str:
        return " ".join(field for field in self if field)


def symbol_diffs(before: Names, after: Names, *, same: bool) -> Iterator[SymbolDiff]:
    """The symbols that were removed, changed or added, in this order for each name.

    `same`: the second table begins with the first, so that all else was added.
    """
    if same:
        first = len(before.elf.symbols) if before.elf.symbols is not None else 0
        for name, entry in _entries(after, first):
            yield SymbolDiff(name, Mark.ADDED, str(entry))
        return
    ours, theirs = _by_name(before), _by_name(after)
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        yield from _compare(name, ours.get(name, []), theirs.get(name, []))


def _compare(name: str, ours: list[_Entry], theirs: list[_Entry]) -> Iterator[SymbolDiff]:
    """Symbols of one name: those that are the same first, the others in order."""
    if ours == theirs:
        return
    both = Counter(ours) & Counter(theirs)
    ours, theirs = _without(ours, both.copy()), _without(theirs, both)
    for old, new in zip(ours, theirs, strict=False):
        fields = zip(_Entry._fields, old, new, strict=True)
        changes = tuple(FieldChange(field, a, b) for field, a, b in fields if a != b)
        yield SymbolDiff(name, Mark.WORD, str(new), changes)
    for old in ours[len(theirs) :]:
        yield SymbolDiff(name, Mark.REMOVED, str(old))
    for new in theirs[len(ours) :]:
        yield SymbolDiff(name, Mark.ADDED, str(new))


def _without(entries: list[_Entry], gone: Counter[_Entry]) -> list[_Entry]:
    """The entries that are left when `gone` is taken from them."""
    left = []
    for entry in entries:
        if gone[entry]:
            gone[entry] -= 1
        else:
            left.append(entry)
    return left


def _by_name(names: Names) -> dict[str, list[_Entry]]:
    found: dict[str, list[_Entry]] = {}
    for name, entry in _entries(names, 1):
        found.setdefault(name, []).append(entry)
    return found


def _entries(names: Names, first: int) -> Iterator[tuple[str, _Entry]]:
    table = names.elf.symbols
    if table is None:
        return
    called = names.section_names
    for index, section, (_, info, other, _, value, size) in names.entries(table):
        if index < first:
            continue
        where = _RESERVED.get(section) or called.get(section, f"section {section:#x}")
        if section not in _RESERVED:
            where += f"+{value:#x}"
        elif value:
            where += f" {value:#x}"
        entry = local_entry_offset(other)
        shown = _Entry(
            where,
            _TYPES.get(info & 0xF, f"type {info & 0xF}"),
            _BINDINGS.get(info >> 4, f"binding {info >> 4}"),
            _VISIBILITIES[other & 3] if other & 3 else "",
            f"local entry +{entry}" if entry else (f"st_other {other:#x}" if other >> 2 else ""),
            f"size {size}",
        )
        yield names.symbol(index), shown
