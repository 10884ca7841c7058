"""Compares two versions of an object, whoever changed it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Final

from scpatch.differ.functions import Side, diff_functions
from scpatch.differ.model import FunctionDiff, Mark, ObjectDiff, Reference, RefusedSite, SectionDiff
from scpatch.differ.names import Names
from scpatch.differ.pairs import Pairing
from scpatch.differ.symbols import symbol_diffs
from scpatch.differ.tables import (
    changed_bytes,
    header_changes,
    pair_sections,
    relocation_changes,
    same_bytes,
    same_symbols,
    section_alone,
    section_fields,
)
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.sites.choices import Choices
from scpatch.sites.model import Common, Scan
from scpatch.strategies.scan import decided, scan


def diff_objects(before: ElfFile, after: ElfFile, context: int = 3) -> ObjectDiff:
    """All that differs; `context` is the number of unchanged instructions around changed ones.

    Raises ScpatchError (SCP107) where one of the files is damaged.
    """
    if same_bytes(before.data, after.data):
        return ObjectDiff(True, "", "", (), (), (), (), ())
    names = Names(before), Names(after)
    sides = (Side(names[0], _scan(before)), Side(names[1], _scan(after)))
    same = same_symbols(before, after)
    matching = pair_sections(before, after)
    pairs = [pair for pair in matching.pairs if not _same_section(before, after, *pair, same=same)]
    refused = [site for site in sides[1].scan.sites if site.state is Common.REFUSED]
    code = _code(before, after, matching, pairs, {site.section for site in refused})
    functions = diff_functions(*sides, code, same_symbols=same, context=context)
    sections = [
        *_section_diffs(*names, pairs, same=same),
        *(section_alone(before, index, Mark.REMOVED) for index in matching.removed),
        *(section_alone(after, index, Mark.ADDED) for index in matching.added),
    ]
    return ObjectDiff(
        same=False,
        kind=_kind(after, sides[1]),
        strategy=_strategy(*sides),
        header=tuple(header_changes(before, after)),
        sections=tuple(sections),
        symbols=tuple(symbol_diffs(*names, same=same)),
        functions=tuple(_with_lines(before, after, functions)),
        refused=tuple(RefusedSite(site.place, site.code, site.detail) for site in refused),
    )


def _scan(elf: ElfFile) -> Scan:
    """The call sites, of a linked image as well."""
    return Scan() if elf.symbols is None else decided(elf, scan(elf, Choices()))


def _kind(elf: ElfFile, side: Side) -> str:
    types = {c.ET_EXEC: "linked image (ET_EXEC)", c.ET_DYN: "linked image (ET_DYN)"}
    kind = "kernel module (ET_REL)" if side.scan.module else types.get(elf.header.e_type, "ET_REL")
    return f"{kind} ppc64le ELFv2"


def _is_code(elf: ElfFile, index: int) -> bool:
    section = elf.sections[index]
    return bool(section.sh_flags & c.SHF_EXECINSTR) and section.sh_type != c.SHT_NOBITS


def _is_alloc(elf: ElfFile, index: int) -> bool:
    return bool(elf.sections[index].sh_flags & c.SHF_ALLOC)


def _same_section(before: ElfFile, after: ElfFile, i: int, j: int, *, same: bool) -> bool:
    """Whether two sections are the same as far as their bytes tell. Relocations whose symbols have
    other indices now are not."""
    one, other = before.sections[i], after.sections[j]
    relocates = one.sh_type == c.SHT_RELA and one.sh_info < len(before.sections)
    if relocates and not same and _is_alloc(before, one.sh_info):
        return False
    # sh_name and sh_offset say where things are; sh_link and sh_info matter with their names.
    return (
        (one.sh_type, one.sh_flags, one.sh_addr, one.sh_size, one.sh_addralign, one.sh_entsize)
        == (
            other.sh_type,
            other.sh_flags,
            other.sh_addr,
            other.sh_size,
            other.sh_addralign,
            other.sh_entsize,
        )
        and (same or (one.sh_link, one.sh_info) == (other.sh_link, other.sh_info))
        and same_bytes(before.content(i), after.content(j))
    )


def _code(
    before: ElfFile,
    after: ElfFile,
    matching: Pairing[int],
    differing: Sequence[tuple[int, int]],
    refusing: Collection[int],
) -> Pairing[int]:
    """The code sections to be shown: those that differ, whose relocations do, or (`refusing`, by
    their indices in the second object) in which a call site is refused."""
    changed = {i for i, _ in differing if before.sections[i].sh_type != c.SHT_RELA}
    changed |= {
        before.sections[i].sh_info for i, _ in differing if before.sections[i].sh_type == c.SHT_RELA
    }
    return Pairing(
        [
            (i, j)
            for i, j in matching.pairs
            if (i in changed or j in refusing) and _is_code(before, i) and _is_code(after, j)
        ],
        [index for index in matching.removed if _is_code(before, index)],
        [index for index in matching.added if _is_code(after, index)],
    )


def _section_diffs(
    before: Names, after: Names, pairs: Iterable[tuple[int, int]], *, same: bool
) -> Iterator[SectionDiff]:
    for i, j in pairs:
        old, new = before.elf.sections[i], after.elf.sections[j]
        fields = tuple(section_fields(before, i, after, j))
        relocations: list[Iterable[Reference]] = [(), ()]
        changed = changed_bytes(before.elf.content(i), after.elf.content(j))
        differs = changed > 0
        if old.sh_type == new.sh_type == c.SHT_RELA and _is_alloc(before.elf, old.sh_info):
            # The meaning of the entries counts: the symbols may have other indices now.
            differs = differs and same
            if not _is_code(before.elf, old.sh_info):
                relocations = relocation_changes(before, old.sh_info, after, new.sh_info)
        removed, added = (tuple(sorted(part, key=attrgetter("order"))) for part in relocations)
        if removed or added or fields or old.sh_size != new.sh_size or differs:
            name = before.elf.section_name(i)
            sizes = old.sh_size, new.sh_size
            yield SectionDiff(name, i, j, *sizes, changed, fields, removed, added)


def _strategy(before: Side, after: Side) -> str:
    """The strategies that the second object says it was rewritten with and the first does not."""
    return " and ".join(sorted(set(after.scan.strategies) - set(before.scan.strategies)))


_SMALL_DEBUG_LINE: Final = 1 << 18
"""Bytes of .debug_line up to which every function gets its source line. Decoding takes some 10 us
a byte; in a whole kernel only functions with refused call sites are looked up."""


def _with_lines(
    before: ElfFile, after: ElfFile, functions: Sequence[FunctionDiff]
) -> Iterator[FunctionDiff]:
    """The functions with their source lines, where DWARF has them."""
    from scpatch.dwarf.lines import line_of

    small = _debug_line(before) + _debug_line(after) <= _SMALL_DEBUG_LINE
    wanted = [one for one in functions if small or one.refused]
    new = line_of(after, [(one.range.section, one.range.start) for one in wanted if one.after])
    old = line_of(before, [(one.range.section, one.range.start) for one in wanted if not one.after])
    for one in functions:
        place = one.range.section, one.range.start
        yield replace(one, line=(new if one.after else old).get(place, ""))


def _debug_line(elf: ElfFile) -> int:
    """The size of the object's line table in bytes."""
    return sum(
        section.sh_size
        for index, section in enumerate(elf.sections)
        if not section.sh_flags & c.SHF_ALLOC and elf.section_name(index) == ".debug_line"
    )
