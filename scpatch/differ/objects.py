"""Compares two versions of an object, whoever changed it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from scpatch.differ.functions import Comparison, Side
from scpatch.differ.model import FieldChange, FunctionDiff, Mark, ObjectDiff, SymbolDiff
from scpatch.differ.names import ObjectNames
from scpatch.differ.pairs import Named, by_name
from scpatch.differ.sections import SectionPairs, header_changes, same_bytes, same_symbols
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.ppc64.variant import NAMES, local_entry_offset
from scpatch.sites.actions import Common
from scpatch.sites.choices import DEFAULT_TRAMPOLINES, Choices
from scpatch.sites.model import Scan
from scpatch.strategies.scan import decided, scan


def diff_objects(
    before: ElfFile,
    after: ElfFile,
    context: int = 3,
    trampolines: Sequence[str] = DEFAULT_TRAMPOLINES,
) -> ObjectDiff:
    """All that differs. `context` is the number of unchanged instructions to show before and after
    changed ones; `trampolines` are patterns of names whose calls are sites.

    Raises ScpatchError (SCP107) if one of the files is damaged.
    """
    if same_bytes(before.data, after.data):
        return ObjectDiff(same=True)
    old, new = (Side(ObjectNames(elf), _scan(elf, trampolines)) for elf in (before, after))
    same = same_symbols(before, after)
    sections = SectionPairs(old.names, new.names, same)
    refused = tuple(site for site in new.scan.sites if site.state is Common.REFUSED)
    comparison = Comparison(old, new, same, context)
    functions = comparison.functions(sections.code({site.section for site in refused}))
    applied = set(new.scan.strategies) - set(old.scan.strategies)
    return ObjectDiff(
        same=False,
        kind=_kind(after, new.scan),
        strategy=" and ".join(sorted(applied)),
        header=header_changes(before, after),
        sections=tuple(sections.diffs()),
        symbols=tuple(symbol_diffs(old.names, new.names, same=same)),
        functions=tuple(_with_lines(before, after, functions)),
        refused=refused,
    )


def _scan(elf: ElfFile, trampolines: Sequence[str]) -> Scan:
    """The call sites, of a linked image as well."""
    return Scan() if elf.symbols is None else decided(elf, scan(elf, Choices(trampolines)))


def _kind(elf: ElfFile, scan: Scan) -> str:
    types = {c.ET_EXEC: "linked image (ET_EXEC)", c.ET_DYN: "linked image (ET_DYN)"}
    kind = "kernel module (ET_REL)" if scan.module else types.get(elf.header.e_type, "ET_REL")
    return f"{kind} {NAMES[elf.encoding.byte_order]} ELFv2"


_SMALL_DEBUG_LINE: Final = 1 << 18
"""Bytes of .debug_line up to which every function gets its source line. Decoding takes some 10 us
a byte; in a whole kernel only functions with refused call sites are looked up."""


def _with_lines(
    before: ElfFile, after: ElfFile, functions: Sequence[FunctionDiff]
) -> Iterator[FunctionDiff]:
    """The functions with their source lines, if DWARF has them."""
    from scpatch.dwarf.lines import line_of

    small = _debug_line(before) + _debug_line(after) <= _SMALL_DEBUG_LINE
    wanted = [function for function in functions if small or function.counts.refused]
    old = line_of(before, [_place(function) for function in wanted if not function.after])
    new = line_of(after, [_place(function) for function in wanted if function.after])
    for function in functions:
        lines = new if function.after else old
        yield replace(function, line=lines.get(_place(function), ""))


def _place(function: FunctionDiff) -> tuple[int, int]:
    return function.range.section, function.range.start


def _debug_line(elf: ElfFile) -> int:
    """The size of the object's line table in bytes."""
    return sum(
        section.sh_size
        for index, section in enumerate(elf.sections)
        if not section.sh_flags & c.SHF_ALLOC and elf.section_name(index) == ".debug_line"
    )


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
                changes = FieldChange.between(_Symbol._fields, old.value, new.value)
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
