"""Everything that a rewrite must leave alone: file header, section headers, bytes, order, gaps.

Each function yields one sentence for each difference that nothing permits. Bytes are compared raw,
in pieces, at the file offsets that the section headers give, so that gigabytes of debug sections
cost one comparison and no parsing.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from scpatch.verifier.objects import record
from scpatch.verifier.objects.read import (
    EHDR_SIZE,
    RELA_SIZE,
    SHDR_SIZE,
    SHF_EXECINSTR,
    Image,
    Place,
    Section,
)
from scpatch.verifier.proof import note, site_table

Spans = dict[int, list[range]]
"""Bytes that may differ: section offsets by section."""

_CHUNK = 1 << 20
_SHOWN = 5
_E_SHOFF, _E_SHNUM = range(40, 48), range(60, 62)
_SH_ADDR, _SH_OFFSET, _SH_SIZE = range(16, 24), range(24, 32), range(32, 40)


class Piece(NamedTuple):
    """A stretch of the file, from `start` to `end` (file offsets), and what it holds."""

    start: int
    end: int
    what: str


def growing(before: Image, after: Image) -> frozenset[int]:
    """Sections that a rewrite may append to: code, its relocations, the symbols and their names,
    the note of the strategy, and the names of sections where there are new ones."""
    found = {section.number for section in before.code}
    found |= {
        index
        for code in before.code
        for index in before.rela_sections.get(code.number, ())
        if not before.sections[index].is_livepatch
    }
    if before.symtab:
        found |= {before.symtab, before.sections[before.symtab].link}
    found |= set(record.sections(before))
    if len(after.sections) > len(before.sections):
        found.add(before.shstrndx)
    return frozenset(found | {before.shndx} - {0})


def structure(before: Image, after: Image, others: Collection[int] = ()) -> Iterator[str]:
    """Differences of the file header, the section headers and the symbol table's old part.

    `others` are the numbers of symbols whose st_other may differ.
    """
    old, new = bytearray(before.data[:EHDR_SIZE]), bytearray(after.data[:EHDR_SIZE])
    added = len(after.sections) - len(before.sections)
    for byte in (*_E_SHOFF, *(_E_SHNUM if added > 0 else ())):
        old[byte] = new[byte] = 0
    if old != new:
        first = next(i for i in range(EHDR_SIZE) if old[i] != new[i])
        yield f"the file header was changed (at byte {first:#x})."
    if added < 0:
        yield f"{len(after.sections)} sections where {len(before.sections)} were."
        return
    for section in after.sections[len(before.sections) :]:
        number = section.number
        if not note.is_new(before, after, number) and not site_table.is_new(before, after, number):
            yield f"section {section.number} ({section.name}) was added."
        if any(_raw_header(after, number)[byte] for byte in _SH_ADDR):
            yield f"section {section.number} ({section.name}) was added with an address."
        if section.offset % max(section.align, 1):
            yield f"section {section.number} ({section.name}) does not lie at its alignment."
    may_grow = growing(before, after)
    for section, changed in zip(before.sections, after.sections, strict=False):
        yield from _header(before, after, section, changed, section.number in may_grow)
    if before.symtab:
        tables = {before.symtab: "symbol table", before.shndx: "symbol section index table"}
        tables[before.sections[before.symtab].link] = "string table"
        tables.pop(0, None)
        may_differ = {before.symtab: [range(24 * n + 5, 24 * n + 6) for n in others]}
        for index, what in tables.items():
            if not _same_start(before, after, index, may_differ.get(index, [])):
                yield f"{before.sections[index].name}: an old entry of the {what} was changed."


def _header(
    before: Image, after: Image, section: Section, changed: Section, grows: bool
) -> Iterator[str]:
    """One section header: only sh_offset may differ, and sh_size of a section that may grow."""
    old = _raw_header(before, section.number)
    new = _raw_header(after, section.number)
    for byte in _SH_OFFSET if section.number else ():
        old[byte] = new[byte] = 0
    counts = len(after.sections) - len(before.sections)
    if section.number == 0 and counts > 0 and after.extended:
        grows = True  # it holds the number of sections
    if grows and changed.size >= section.size:
        for byte in _SH_SIZE:
            old[byte] = new[byte] = 0
    if old != new:
        yield f"the header of section {section.number} ({section.name}) was changed."
    align = section.align
    whole = align > 1 and not align & (align - 1)  # no power of two is no alignment
    if whole and section.offset % align == 0 and changed.offset % align:
        yield f"section {section.number} ({section.name}) no longer lies at its alignment."
    moved = section.offset != changed.offset
    if moved and (section.offset > len(before.data)) != (changed.offset > len(after.data)):
        # All that can be said of SHT_NOBITS, whose offset leads to no bytes.
        yield f"section {section.number} ({section.name}) lies behind the end of the file."


def _raw_header(image: Image, index: int) -> bytearray:
    start = image.shoff + index * SHDR_SIZE
    return bytearray(image.data[start : start + SHDR_SIZE])


def _name_offset(image: Image, index: int) -> int:
    """The sh_name of a section."""
    return int.from_bytes(_raw_header(image, index)[:4], "little")


def _same_start(before: Image, after: Image, index: int, spans: Sequence[range]) -> bool:
    """Whether the old bytes of a section, but for `spans`, still stand at its beginning."""
    old, new = before.sections[index], after.sections[index]
    if new.size < old.size:
        return False
    if spans:
        one, two = _without(before, after, old, spans)
        return one == two
    return _first_difference(before, after, old, new) is None


def _first_difference(before: Image, after: Image, old: Section, new: Section) -> int | None:
    """The section offset of the first byte that differs within the old size; None for none."""
    if not old.has_bytes:
        return None
    for start in range(0, old.size, _CHUNK):
        length = min(_CHUNK, old.size - start)
        one = before.data[old.offset + start : old.offset + start + length]
        two = after.data[new.offset + start : new.offset + start + length]
        if one != two:
            pairs = zip(one, two, strict=False)
            return start + next((i for i, (a, b) in enumerate(pairs) if a != b), len(two))
    return None


def gaps(before: Image, after: Image) -> Iterator[str]:
    """Bytes of the file that belong to no section, and sections that lie in each other.

    What followed a section in the old file must follow it in the new one; else a gap is zeros.
    """
    held = {what: data for what, data in _gaps(before) if any(data)}
    end = 0
    for piece in _pieces(after):
        if piece.start < end:
            yield f"{piece.what} lies in another part of the file."
        end = max(end, piece.end)
    for what, data in _gaps(after):
        wanted = held.pop(what, b"")
        if not data.startswith(wanted) or any(data[len(wanted) :]):
            yield f"the file holds bytes after {what} that belong to nothing."
    for what in held:
        yield f"the bytes after {what} that belong to no section are gone."


def _pieces(image: Image) -> list[Piece]:
    """The file header, the section header table and each section that has bytes, in file order."""
    found = [Piece(0, EHDR_SIZE, "the file header")]
    table = image.shoff, image.shoff + SHDR_SIZE * len(image.sections)
    found.append(Piece(*table, "the section header table"))
    for section in image.sections[1:]:
        if section.has_bytes and section.size:
            what = f"section {section.number} ({section.name})"
            found.append(Piece(section.offset, section.offset + section.size, what))
    return sorted(found)


def _gaps(image: Image) -> list[tuple[str, bytes]]:
    pieces = _pieces(image)
    ends = [*(piece.start for piece in pieces[1:]), len(image.data)]
    return [
        (piece.what, image.data[piece.end : end])
        for piece, end in zip(pieces, ends, strict=True)
        if end > piece.end
    ]


def sections(
    before: Image,
    after: Image,
    words: Iterable[Place],
    records: Iterable[Place] = (),
    others: Iterable[Spans] = (),
) -> Iterator[str]:
    """Differences of the old bytes of every section.

    `words` are the section offsets of the instruction words that may differ, `records` the
    section offsets, in their SHT_RELA section, of the relocations whose r_info's symbol and
    r_addend may, `others` what else may differ.
    """
    spans: Spans = {}
    parts = [(section, part) for more in others for section in more for part in more[section]]
    parts += [(section, range(offset, offset + 4)) for section, offset in words]
    parts += [(section, range(offset + 12, offset + 24)) for section, offset in records]
    for section, part in parts:
        spans.setdefault(section, []).append(part)
    known = {before.symtab, before.shndx}
    if before.symtab:
        known.add(before.sections[before.symtab].link)  # `structure` has compared these
    for old, new in zip(before.sections, after.sections, strict=False):
        if old.number in known or not old.has_bytes:
            continue
        if old.number in spans:
            yield from _changed(before, after, old, spans[old.number])
        elif (first := _first_difference(before, after, old, new)) is not None:
            yield _sentence(before, old, first)


def _changed(before: Image, after: Image, old: Section, spans: list[range]) -> Iterator[str]:
    """The old bytes of one section with `spans` left out of the comparison."""
    one, two = _without(before, after, old, spans)
    if one == two:
        return
    unit = 4 if old.flags & SHF_EXECINSTR else RELA_SIZE
    seen = 0
    for start in range(0, len(one), unit):
        if one[start : start + unit] != two[start : start + unit]:
            yield _sentence(before, old, start)
            seen += 1
            if seen == _SHOWN:
                return


def _without(
    before: Image, after: Image, old: Section, spans: Sequence[range]
) -> tuple[bytearray, bytearray]:
    """The old bytes of a section in both files, made equal in `spans`."""
    one = bytearray(before.content(old.number))
    two = bytearray(after.content(old.number)[: len(one)])
    for span in spans:
        one[span.start : span.stop] = two[span.start : span.stop]
    return one, two


def _sentence(before: Image, section: Section, offset: int) -> str:
    """What to say about a byte that differs: relocations are named by where they apply."""
    if section.type == 4 and section.info < len(before.sections):
        record = offset // RELA_SIZE
        if (record + 1) * RELA_SIZE <= section.size:
            (at,) = struct.unpack_from("<Q", before.data, section.offset + record * RELA_SIZE)
            where = before.where(Place(section.info, at))
            return f"{where}: the relocation (entry {record} of {section.name}) was changed."
    place = before.where(Place(section.number, offset))
    return f"{place}: bytes were changed that have nothing to do with a static call."


def appended_names(before: Image, after: Image) -> Iterator[str]:
    """Bytes appended to a table of names that are no name of an appended symbol or section."""
    names = {
        before.shstrndx: [
            (_name_offset(after, one.number), one.name)
            for one in after.sections[len(before.sections) :]
        ]
    }
    if before.symtab:
        # The two tables may be one.
        symbols = after.symbols[len(before.symbols) :]
        found = names.setdefault(before.sections[before.symtab].link, [])
        found += [(symbol.name_offset, symbol.name) for symbol in symbols]
    for table, appended in names.items():
        start, end = before.sections[table].size, after.sections[table].size
        free = bytearray(b"\1" * (end - start))
        for offset, name in appended:
            first = max(offset, start) - start
            last = offset + len(name.encode("utf-8", "surrogateescape")) + 1 - start
            if last > 0:
                free[first:last] = bytes(last - first)
        if any(free):
            yield f"{after.sections[table].name}: bytes were appended that name nothing new."
