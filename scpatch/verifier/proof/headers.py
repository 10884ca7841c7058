"""The file header, the section headers and the old symbols: a rewrite must leave them as they were.

Sections may move in the file, and those that a rewrite appends to may grow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from scpatch.verifier.objects import record
from scpatch.verifier.objects.read import EHDR_SIZE, SHDR_SIZE, SYM_SIZE, Image, Section
from scpatch.verifier.proof import site_table
from scpatch.verifier.proof.same import are_same

_E_SHOFF, _E_SHNUM = range(40, 48), range(60, 62)
_SH_ADDR, _SH_OFFSET, _SH_SIZE = range(16, 24), range(24, 32), range(32, 40)
_ST_OTHER = 5


def check(before: Image, after: Image, marked: Collection[int] = ()) -> Iterator[str]:
    """One sentence for each difference of the headers and of the old symbols.

    `marked` are the numbers of symbols whose st_other may differ.
    """
    added = after.sections[len(before.sections) :]
    fields = (_E_SHOFF, _E_SHNUM) if added else (_E_SHOFF,)
    old, new = (_without(image.data[:EHDR_SIZE], fields) for image in (before, after))
    if old != new:
        first = next(i for i in range(EHDR_SIZE) if old[i] != new[i])
        yield f"the file header was changed (at byte {first:#x})."
    if len(after.sections) < len(before.sections):
        yield f"there are {len(after.sections)} sections instead of {len(before.sections)}."
        return
    for section in added:
        yield from _added(before, after, section)
    may_grow = _growing(before, after)
    for section, changed in zip(before.sections, after.sections, strict=False):
        yield from _header(before, after, section, changed, section.number in may_grow)
    if before.symtab:
        tables = {before.symtab: "symbol table", before.shndx: "symbol section index table"}
        tables[before.sections[before.symtab].link] = "string table"
        tables.pop(0, None)
        others = [SYM_SIZE * number + _ST_OTHER for number in marked]
        spans = {before.symtab: [range(other, other + 1) for other in others]}
        for index, what in tables.items():
            if not are_same(before, after, index, spans.get(index, ())):
                yield f"{before.sections[index].name}: an old entry of the {what} was changed."


def _growing(before: Image, after: Image) -> frozenset[int]:
    """Sections that a rewrite may append to: code, its relocations, the symbols and their names,
    the note of the strategy, and the names of sections if there are new ones."""
    growing = {section.number for section in before.code}
    growing |= {
        table
        for code in before.code
        for table in before.rela_sections.get(code.number, ())
        if not before.sections[table].is_livepatch
    }
    if before.symtab:
        growing |= {before.symtab, before.sections[before.symtab].link}
    growing |= set(record.sections(before))
    if len(after.sections) > len(before.sections):
        growing.add(before.shstrndx)
    return frozenset(growing | {before.shndx} - {0})


def _added(before: Image, after: Image, section: Section) -> Iterator[str]:
    """A section that was added: the note or the table of call sites, and nothing else."""
    label, number = f"section {section.number} ({section.name})", section.number
    if not record.is_new(before, after, number) and not site_table.is_new(before, after, number):
        yield f"{label} was added."
    if section.address:
        yield f"{label} was added with an address."
    if section.offset % max(section.align, 1):
        yield f"{label} is not aligned."


def _header(
    before: Image, after: Image, section: Section, changed: Section, grows: bool
) -> Iterator[str]:
    """A section header: only sh_offset may differ, and sh_size of a section that may grow."""
    if section.number == 0 and len(after.sections) > len(before.sections) and after.extended:
        grows = True  # it holds the number of sections
    fields = [_SH_OFFSET] if section.number else []
    fields += [_SH_SIZE] if grows and changed.size >= section.size else []
    old, new = (_without(_raw(image, section.number), fields) for image in (before, after))
    label = f"section {section.number} ({section.name})"
    if old != new:
        yield f"the header of {label} was changed."
    align = section.align
    is_alignment = align > 1 and not align & (align - 1)  # a power of two
    if is_alignment and section.offset % align == 0 and changed.offset % align:
        yield f"{label} is no longer aligned."
    moved = section.offset != changed.offset
    if moved and (section.offset > len(before.data)) != (changed.offset > len(after.data)):
        # Nothing else can be said of SHT_NOBITS, whose offset leads to no bytes.
        yield f"{label} is past the end of the file."


def _raw(image: Image, number: int) -> bytes:
    """The header of a section."""
    start = image.shoff + number * SHDR_SIZE
    return image.data[start : start + SHDR_SIZE]


def _without(data: bytes, fields: Iterable[range]) -> bytearray:
    """A header with some fields zeroed."""
    masked = bytearray(data)
    for span in fields:
        masked[span.start : span.stop] = bytes(len(span))
    return masked
