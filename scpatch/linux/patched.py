"""Which instructions the Linux kernel may patch, by the tables that tell it where.

When it boots or loads a module, it replaces feature sections by their alternatives or by nops, and
puts in the barriers that the processor needs (arch/powerpc/lib/feature-fixups.c). While it runs, it
patches static branches and the calls of ftrace.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from scpatch.elf.functions import section_of
from scpatch.elf.reader import ElfFile
from scpatch.elf.relocations import RelaTable
from scpatch.ppc64 import insn
from scpatch.ppc64.effects import NONE, effects
from scpatch.ppc64.relocs import R_PPC64_REL64

FEATURES: Final = frozenset({"__ftr_fixup", "__mmu_ftr_fixup", "__fw_ftr_fixup"})
"""Tables of `struct fixup_entry`: mask, value, and four distances from the entry itself, to the
start and end of the code and of its alternative."""
_FEATURE_ENTRY: Final = 48
_FEATURE_FIELDS: Final = (16, 24, 32, 40)

FLUSHES: Final = "__btb_flush_fixup"
"""Two distances from the entry itself, to the start and end of code that may become nops."""

BARRIERS: Final = {
    "__lwsync_fixup": 1,
    "__barrier_nospec_fixup": 2,
    "__stf_entry_barrier_fixup": 3,
    "__stf_exit_barrier_fixup": 6,
    "__entry_flush_fixup": 3,
    "__scv_entry_flush_fixup": 3,
    "__uaccess_flush_fixup": 4,
    "__rfi_flush_fixup": 3,
}
"""Tables of distances to code -> how many words are patched there."""

FIXUPS: Final = FEATURES | {FLUSHES} | BARRIERS.keys()
_SUFFIX: Final = "_fixup"
"""How the names of all such tables end, also in later kernels. `.fixup` is code."""

WORDS: Final = frozenset({"__mcount_loc", "__patchable_function_entries", "__jump_table"})
"""Tables of single instructions that are patched while the kernel runs: calls of ftrace, static
branches. They may be nops, or branches."""


class CodeRange(NamedTuple):
    """Section offsets: from `start` to before `end`."""

    start: int
    end: int


class Patches(NamedTuple):
    """What may be patched in one section: ranges without overlaps, sorted."""

    quiet: Sequence[CodeRange]
    """Each word may become a nop, or something that touches neither r1, r2 nor 24(r1)."""
    loud: Sequence[CodeRange]
    """Each word may become anything."""
    ends: frozenset[int]
    """Where a table's entry starts or ends."""


NO_PATCHES: Final = Patches((), (), frozenset())


class Patched(NamedTuple):
    """What may be patched in an object."""

    sections: Mapping[int, Patches]
    """By section index."""
    unread: str
    """The name of a table that could not be read; empty if all could."""


class _Entry(NamedTuple):
    section: int
    code: CodeRange
    is_quiet: bool


def find_patched(elf: ElfFile) -> Patched:
    entries: dict[int, list[_Entry]] = {}
    unread = ""
    for target in elf.sections_ending(_SUFFIX):
        table, name = elf.relocations(target), elf.section_name(target)
        if table is None:
            continue
        size = elf.sections[target].file_size
        read = _read(elf, name, table, size) if name in FIXUPS else None
        if read is None:
            unread = name
        for entry in read or ():
            entries.setdefault(entry.section, []).append(entry)
    return Patched({section: _patches(here) for section, here in entries.items()}, unread)


def _patches(entries: Sequence[_Entry]) -> Patches:
    return Patches(
        merged(entry.code for entry in entries if entry.is_quiet),
        merged(entry.code for entry in entries if not entry.is_quiet),
        frozenset(end for entry in entries for end in entry.code),
    )


def _read(elf: ElfFile, name: str, table: RelaTable, size: int) -> list[_Entry] | None:
    """The entries of a table; None if it has another form."""
    length = _FEATURE_ENTRY if name in FEATURES else 16 if name == FLUSHES else 8
    fields = _FEATURE_FIELDS if name in FEATURES else tuple(range(0, length, 8))
    places: dict[int, tuple[int, int]] = {}
    for index, offset in enumerate(table.r_offset):
        if table.r_info[index] & 0xFFFFFFFF != R_PPC64_REL64 or offset % length not in fields:
            return None
        assert elf.symbols is not None, "its relocations name symbols"
        symbol = table.symbol[index]
        home, value = section_of(elf.symbols, symbol), elf.symbols.st_value[symbol]
        # The distance counts from the entry, the relocation from the field.
        places[offset] = home, value + table.r_addend[index] - offset % length
    if set(places) != {at + field for at in range(0, size, length) for field in fields}:
        return None
    entries = []
    for at in range(0, size, length):
        ends = [places[at + field] for field in fields]
        if name in BARRIERS:
            section, start = ends[0]
            ends.append((section, start + 4 * BARRIERS[name]))
        code = _range(elf, *ends[:2])
        alternative = _range(elf, *ends[2:]) if name in FEATURES else code
        if code is None or alternative is None:
            return None
        is_quiet = name not in FEATURES or _is_quiet(elf, ends[2][0], alternative)
        entries.append(_Entry(ends[0][0], code, is_quiet))
    return entries


def _range(elf: ElfFile, start: tuple[int, int], end: tuple[int, int]) -> CodeRange | None:
    """The words between two places of one section; None if they are not that."""
    section, (first, last) = start[0], (start[1], end[1])
    if section != end[0] or not 0 < section < len(elf.sections) or first % 4 or last % 4:
        return None
    size = elf.sections[section].sh_size
    return CodeRange(first, min(last, size)) if 0 <= first <= last and first <= size else None


def _is_quiet(elf: ElfFile, section: int, alternative: CodeRange) -> bool:
    """Whether an alternative has neither branches nor anything that touches r1, r2 or 24(r1)."""
    start, end = alternative
    code = elf.content(section)[start:end]
    words = set(elf.encoding.words(code))
    if len(code) < end - start or any(insn.transfers(word) for word in words):
        return False
    if any(effects(word) != NONE or insn.base_is_r1(word) for word in words):
        return False
    table = elf.relocations(section)
    return table is None or not table.between(start, end)


def merged(ranges: Iterable[CodeRange]) -> list[CodeRange]:
    """The same words in ranges without overlaps, sorted."""
    result: list[CodeRange] = []
    for start, end in sorted(ranges):
        if result and start <= result[-1].end:
            start, last = result.pop()
            end = max(end, last)
        result.append(CodeRange(start, end))
    return result


def words_in(ranges: Sequence[CodeRange], start: int, end: int) -> Iterator[int]:
    """The section offsets of the words of `ranges` from `start` to before `end`."""
    first = max(bisect_right(ranges, start, key=lambda item: item.start) - 1, 0)
    for item in ranges[first:]:
        if item.start >= end:
            return
        yield from range(max(item.start, start), min(item.end, end), 4)
