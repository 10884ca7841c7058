"""Compares two versions of an object, whoever changed it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from scpatch.differ.contents import header_changes, same_bytes, same_symbols
from scpatch.differ.functions import Comparison, Side
from scpatch.differ.model import FunctionDiff, ObjectDiff
from scpatch.differ.names import ObjectNames
from scpatch.differ.sections import SectionPairs
from scpatch.differ.symbols import symbol_diffs
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.sites.actions import Common
from scpatch.sites.choices import Choices
from scpatch.sites.model import Scan
from scpatch.strategies.scan import decided, scan


def diff_objects(before: ElfFile, after: ElfFile, context: int = 3) -> ObjectDiff:
    """All that differs. `context` is the number of unchanged instructions to show before and after
    changed ones.

    Raises ScpatchError (SCP107) if one of the files is damaged.
    """
    if same_bytes(before.data, after.data):
        return ObjectDiff(same=True)
    old, new = (Side(ObjectNames(elf), _scan(elf)) for elf in (before, after))
    same = same_symbols(before, after)
    sections = SectionPairs.of(old.names, new.names, same_symbols=same)
    refused = tuple(site for site in new.scan.sites if site.state is Common.REFUSED)
    comparison = Comparison(old, new, same, context)
    functions = comparison.functions(sections.code({site.section for site in refused}))
    applied = set(new.scan.strategies) - set(old.scan.strategies)
    return ObjectDiff(
        same=False,
        kind=_kind(after, new.scan),
        strategy=" and ".join(sorted(applied)),
        header=tuple(header_changes(before, after)),
        sections=tuple(sections.diffs()),
        symbols=tuple(symbol_diffs(old.names, new.names, same=same)),
        functions=tuple(_with_lines(before, after, functions)),
        refused=refused,
    )


def _scan(elf: ElfFile) -> Scan:
    """The call sites, of a linked image as well."""
    return Scan() if elf.symbols is None else decided(elf, scan(elf, Choices()))


def _kind(elf: ElfFile, scan: Scan) -> str:
    types = {c.ET_EXEC: "linked image (ET_EXEC)", c.ET_DYN: "linked image (ET_DYN)"}
    kind = "kernel module (ET_REL)" if scan.module else types.get(elf.header.e_type, "ET_REL")
    return f"{kind} ppc64le ELFv2"


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
