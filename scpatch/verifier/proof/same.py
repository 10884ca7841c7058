"""The bytes that a rewrite must leave alone: sections, gaps between them, tables of names.

Each function yields one sentence for each difference that nothing permits. Bytes are compared in
chunks at the file offsets of the section headers, so gigabytes of debug sections are not parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from scpatch.verifier.objects.read import (
    EHDR_SIZE,
    RELA_SIZE,
    SHDR_SIZE,
    SHF_EXECINSTR,
    SHT_RELA,
    Image,
    Place,
    Section,
)

_CHUNK = 1 << 20
_SHOWN = 5


class Piece(NamedTuple):
    """A stretch of the file, from `start` to `end` (file offsets), and what it holds."""

    start: int
    end: int
    what: str


def are_same(before: Image, after: Image, index: int, spans: Iterable[range] = ()) -> bool:
    """Whether a section begins with its old bytes, except for `spans`."""
    old, new = before.sections[index], after.sections[index]
    if new.size < old.size:
        return False
    if spans:
        contents = _contents(before, after, old, spans)
        return contents[0] == contents[1]
    return _first_difference(before, after, old, new) is None


def _first_difference(before: Image, after: Image, old: Section, new: Section) -> int | None:
    """The section offset of the first byte that differs within the old size; None if none does."""
    if not old.has_bytes:
        return None
    for start in range(0, old.size, _CHUNK):
        length = min(_CHUNK, old.size - start)
        was = before.data[old.offset + start : old.offset + start + length]
        now = after.data[new.offset + start : new.offset + start + length]
        if was != now:
            pairs = zip(was, now, strict=False)
            return start + next((i for i, (a, b) in enumerate(pairs) if a != b), len(now))
    return None


def gaps(before: Image, after: Image) -> Iterator[str]:
    """Bytes of the file that belong to no section, and sections that overlap.

    What followed a section in the old file must follow it in the new one, after those that were
    empty. Other gaps are zeros.
    """
    gaps_before = dict(_gaps(before))
    old = {what: data for what, data in gaps_before.items() if any(data)}
    end, last = 0, ""
    for piece in _pieces(after):
        if piece.start < end:
            yield f"{piece.what} overlaps another part of the file."
        end = max(end, piece.end)
    for what, data in _gaps(after):
        last = what if what in gaps_before else last
        wanted = old.pop(last, b"") if any(data) else b""
        if not data.startswith(wanted) or any(data[len(wanted) :]):
            yield f"the file holds bytes after {what} that belong to nothing."
    for what in old:
        yield f"the bytes after {what} that belong to no section are gone."


def _pieces(image: Image) -> list[Piece]:
    """The file header, the section header table and each section that has bytes, in file order."""
    end = image.shoff + SHDR_SIZE * len(image.sections)
    pieces = [Piece(0, EHDR_SIZE, "the file header")]
    pieces.append(Piece(image.shoff, end, "the section header table"))
    for section in image.sections[1:]:
        if section.has_bytes and section.size:
            what = f"section {section.number} ({section.name})"
            pieces.append(Piece(section.offset, section.offset + section.size, what))
    return sorted(pieces)


def _gaps(image: Image) -> list[tuple[str, bytes]]:
    pieces = _pieces(image)
    ends = [*(piece.start for piece in pieces[1:]), len(image.data)]
    return [
        (piece.what, image.data[piece.end : max(end, piece.end)])
        for piece, end in zip(pieces, ends, strict=True)
    ]


def sections(
    before: Image,
    after: Image,
    words: Iterable[Place],
    records: Iterable[Place] = (),
    others: Iterable[tuple[int, range]] = (),
) -> Iterator[str]:
    """Differences of the old bytes of every section.

    `words` are the section offsets of the instruction words that may differ, `records` the
    section offsets, in their SHT_RELA section, of the relocations whose r_info's symbol and
    r_addend may, `others` what else may differ.
    """
    spans: dict[int, list[range]] = {}
    parts = [*others]
    parts += [(section, range(offset, offset + 4)) for section, offset in words]
    half = before.variant.symbol_half
    symbol, addend = range(8 + half.start, 8 + half.stop), range(16, RELA_SIZE)
    for section, offset in records:
        fields = (range(offset + part.start, offset + part.stop) for part in (symbol, addend))
        parts += [(section, field) for field in fields]
    for section, part in parts:
        spans.setdefault(section, []).append(part)
    known = {before.symtab, before.shndx}
    if before.symtab:
        known.add(before.sections[before.symtab].link)  # `headers` has compared these
    for old, new in zip(before.sections, after.sections, strict=False):
        if old.number in known or not old.has_bytes:
            continue
        if old.number in spans:
            yield from _changed(before, after, old, spans[old.number])
        elif (first := _first_difference(before, after, old, new)) is not None:
            yield _sentence(before, old, first)


def _changed(before: Image, after: Image, old: Section, spans: list[range]) -> Iterator[str]:
    """The old bytes of a section that differ outside `spans`."""
    was, now = _contents(before, after, old, spans)
    if was == now:
        return
    unit = 4 if old.flags & SHF_EXECINSTR else RELA_SIZE
    units = (slice(start, start + unit) for start in range(0, len(was), unit))
    differ = (part.start for part in units if was[part] != now[part])
    for start in islice(differ, _SHOWN):
        yield _sentence(before, old, start)


def _contents(
    before: Image, after: Image, old: Section, spans: Iterable[range]
) -> tuple[bytearray, bytearray]:
    """The old bytes of a section in both files, made equal in `spans`."""
    was = bytearray(before.content(old.number))
    now = bytearray(after.content(old.number)[: len(was)])
    for span in spans:
        was[span.start : span.stop] = now[span.start : span.stop]
    return was, now


def _sentence(before: Image, section: Section, offset: int) -> str:
    """The sentence for a byte that differs; relocations are named by where they apply."""
    if section.type == SHT_RELA and section.info < len(before.sections):
        record = offset // RELA_SIZE
        if (record + 1) * RELA_SIZE <= section.size:
            start = section.offset + record * RELA_SIZE
            at = before.variant.number(before.data[start : start + 8])
            where = before.where(Place(section.info, at))
            return f"{where}: the relocation (entry {record} of {section.name}) was changed."
    place = before.where(Place(section.number, offset))
    return f"{place}: bytes were changed that do not belong to a static call."


def appended_names(before: Image, after: Image) -> Iterator[str]:
    """Bytes appended to a table of names that are not the name of an appended symbol or section."""
    sections = after.sections[len(before.sections) :]
    names = {before.shstrndx: [(_name_offset(after, new.number), new.name) for new in sections]}
    if before.symtab:
        # The two tables may be the same.
        symbols = after.symbols[len(before.symbols) :]
        table = before.sections[before.symtab].link
        names.setdefault(table, []).extend((new.name_offset, new.name) for new in symbols)
    for table, appended in names.items():
        start, end = before.sections[table].size, after.sections[table].size
        unused = bytearray(b"\1" * (end - start))
        for offset, name in appended:
            first = max(offset, start) - start
            last = offset + len(name.encode("utf-8", "surrogateescape")) + 1 - start
            if last > 0:
                unused[first:last] = bytes(last - first)
        if any(unused):
            yield f"{after.sections[table].name}: names were appended that nothing new has."


def _name_offset(image: Image, number: int) -> int:
    """The sh_name of a section."""
    start = image.shoff + number * SHDR_SIZE
    return image.variant.number(image.data[start : start + 4])
