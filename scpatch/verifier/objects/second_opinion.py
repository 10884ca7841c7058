"""LIEF's reading of an object, held against that of `read`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from scpatch.verifier.objects.read import SHN_LORESERVE, SHN_XINDEX, STT_SECTION, Image

_SHOWN = 5


def disagreements(image: Image) -> tuple[str, ...]:
    """What LIEF reads otherwise than `image` has it; empty where both agree.

    LIEF 1.0 does not follow the counts that section header 0 holds past 65,279 sections (gABI,
    e_shnum), so such a file has no second opinion.
    """
    import lief

    if image.extended:
        return ()
    level = lief.logging.get_level()
    lief.logging.disable()
    try:
        config = lief.ELF.ParserConfig()
        config.parse_relocations = False
        binary = lief.ELF.parse(str(image.path), config)
    finally:
        lief.logging.enable()
        lief.logging.set_level(level)
    if binary is None:
        return (f"LIEF cannot read {image.path.name}",)
    shown = islice(_differences(image, binary), _SHOWN)
    return tuple(f"LIEF reads {image.path.name} otherwise: {text}" for text in shown)


def _differences(image: Image, binary: object) -> Iterator[str]:
    """Section headers, then symbols. `binary` must stay alive while its parts are read.

    Section types are left out: LIEF warns on stderr about each that it has no name for.
    """
    sections = list(binary.sections)  # type: ignore[attr-defined]
    if len(sections) != len(image.sections):
        yield f"{len(sections)} sections, not {len(image.sections)}"
        return
    for ours, theirs in zip(image.sections, sections, strict=True):
        seen = (
            *(_name(theirs), int(theirs.file_offset), int(theirs.size), int(theirs.link)),
            *(int(theirs.information), int(theirs.alignment), int(theirs.entry_size)),
        )
        if seen != (*(ours.name, ours.offset, ours.size, ours.link), *ours[8:]):
            yield f"section {ours.number} is {seen}"
    symbols = list(binary.symtab_symbols)  # type: ignore[attr-defined]
    if len(symbols) != len(image.symbols):
        yield f"{len(symbols)} symbols, not {len(image.symbols)}"
        return
    for symbol, other in zip(image.symbols, symbols, strict=True):
        values = (int(other.value), int(other.size), int(other.information), int(other.other))
        if values != (symbol.value, symbol.size, symbol.info, symbol.other):
            yield f"symbol {symbol.number} ({symbol.name}) is {values}"
        if symbol.type != STT_SECTION and _name(other) != symbol.name:
            yield f"symbol {symbol.number} is named {_name(other)}"
        reserved = SHN_LORESERVE <= symbol.shndx < SHN_XINDEX
        if int(other.shndx) != (symbol.shndx if reserved else symbol.section):
            yield f"symbol {symbol.number} ({symbol.name}) is in section {other.shndx}"


def _name(named: object) -> str:
    """A name as `read` has it; LIEF gives bytes for one that is not UTF-8."""
    name = named.name  # type: ignore[attr-defined]
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)
