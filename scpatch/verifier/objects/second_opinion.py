"""Another reading of an object, held against that of `read`: LIEF's, or pyelftools' if LIEF is not
installed (it has no wheels for ppc64le) or cannot read the file's counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any, NamedTuple

from scpatch.verifier.beside import undisturbed
from scpatch.verifier.objects.read import SHN_LORESERVE, SHN_XINDEX, STT_SECTION, Image

_SHOWN = 5


class _Symbol(NamedTuple):
    name: str
    value: int
    size: int
    info: int
    other: int
    section: int
    """st_shndx, but of SHN_XINDEX the index that stands for it."""


class _Tables(NamedTuple):
    """What a library reads. Section types are left out: LIEF warns on stderr about each that it has
    no name for."""

    sections: Sequence[tuple[str, int, int, int, int, int, int]]
    """Name, offset, size, link, info, alignment, entry size."""
    symbols: Sequence[_Symbol]


class Library(NamedTuple):
    """A library that reads objects. It must read names as `spell` would."""

    name: str
    read: Callable[[Image], _Tables | None]
    """None for a file that it cannot read."""
    spell: Callable[[str], str] = str
    other_bits: int = 0xFF
    """The bits of st_other that it reads."""


def choose(image: Image) -> Library:
    """The library that gives the second opinion on an image.

    LIEF 1.0 does not follow the counts that section header 0 holds past 65,279 sections (gABI,
    e_shnum).
    """
    if not image.extended:
        # A signal's handler must not raise in Python that C++ calls: it would end by SIGABRT.
        with suppress(ImportError), undisturbed():
            version = import_module("lief").__version__.partition("-")[0]
            return Library(f"LIEF {version}", _read_by_lief)
    version = import_module("elftools").__version__
    # It replaces what is not UTF-8, and does not keep bits 3 and 4 of st_other, which have no use.
    return Library(f"pyelftools {version}", _read_by_elftools, _replaced, 0b11100111)


def names(*images: Image) -> str:
    """The libraries that give an opinion on images."""
    return ", ".join(dict.fromkeys(choose(image).name for image in images))


def disagreements(image: Image) -> tuple[str, ...]:
    """What the library reads otherwise than `image` has it; empty where both agree."""
    library = choose(image)
    tables = library.read(image)
    name = library.name.partition(" ")[0]
    if tables is None:
        return (f"{name} cannot read {image.path.name}",)
    shown = islice(_differences(image, tables, library), _SHOWN)
    return tuple(f"{name} reads {image.path.name} otherwise: {text}" for text in shown)


def _differences(image: Image, tables: _Tables, library: Library) -> Iterator[str]:
    """Section headers, then symbols."""
    sections, symbols = tables
    if len(sections) != len(image.sections):
        yield f"{len(sections)} sections, not {len(image.sections)}"
        return
    for ours, seen in zip(image.sections, sections, strict=True):
        if seen != (library.spell(ours.name), ours.offset, ours.size, ours.link, *ours[8:]):
            yield f"section {ours.number} is {seen}"
    if len(symbols) != len(image.symbols):
        yield f"{len(symbols)} symbols, not {len(image.symbols)}"
        return
    bits = library.other_bits
    for symbol, other in zip(image.symbols, symbols, strict=True):
        ours_of_it = (symbol.value, symbol.size, symbol.info, symbol.other & bits)
        if other[1:5] != ours_of_it:
            yield f"symbol {symbol.number} ({symbol.name}) is {other[1:5]}"
        if symbol.type != STT_SECTION and other.name != library.spell(symbol.name):
            yield f"symbol {symbol.number} is named {other.name}"
        reserved = SHN_LORESERVE <= symbol.shndx < SHN_XINDEX
        if other.section != (symbol.shndx if reserved else symbol.section):
            yield f"symbol {symbol.number} ({symbol.name}) is in section {other.section}"


def _read_by_lief(image: Image) -> _Tables | None:
    import lief

    level = lief.logging.get_level()
    lief.logging.disable()
    try:
        config = lief.ELF.ParserConfig()
        config.parse_relocations = False
        # It must stay alive while its parts are read.
        binary = lief.ELF.parse(str(image.path), config)
    finally:
        lief.logging.enable()
        lief.logging.set_level(level)
    if binary is None:
        return None
    sections = [
        (
            *(_text(section.name), int(section.file_offset), int(section.size), int(section.link)),
            *(int(section.information), int(section.alignment), int(section.entry_size)),
        )
        for section in binary.sections
    ]
    symbols = [
        _Symbol(
            *(_text(symbol.name), int(symbol.value), int(symbol.size)),
            *(int(symbol.information), int(symbol.other), int(symbol.shndx)),
        )
        for symbol in binary.symtab_symbols
    ]
    return _Tables(sections, symbols)


def _text(name: str | bytes) -> str:
    """A name as `read` has it; LIEF gives bytes for one that is not UTF-8."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def _replaced(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read_by_elftools(image: Image) -> _Tables | None:
    from elftools.elf.elffile import ELFFile

    with image.path.open("rb") as file:
        try:
            parts: list[Any] = list(ELFFile(file).iter_sections())
            by_type = {part["sh_type"]: part for part in reversed(parts)}
            table, wide = by_type.get("SHT_SYMTAB"), by_type.get("SHT_SYMTAB_SHNDX")
            symbols = [
                _elftools_symbol(symbol, partial(wide.get_section_index, index) if wide else None)
                for index, symbol in enumerate(table.iter_symbols() if table else ())
            ]
        except MemoryError:
            raise
        except Exception:  # beside its own errors, those of seeking, decoding and looking up
            return None
    fields = ("sh_offset", "sh_size", "sh_link", "sh_info", "sh_addralign", "sh_entsize")
    return _Tables([(part.name, *(part[field] for field in fields)) for part in parts], symbols)


def _elftools_symbol(symbol: Any, wide_section: Callable[[], int] | None) -> _Symbol:
    from elftools.elf import enums

    def number(value: int | str, names: Mapping[str, int]) -> int:
        """The value of a field, which is given by its name if pyelftools knows one."""
        return names[value] if isinstance(value, str) else value

    entry = symbol.entry
    section = number(entry["st_shndx"], enums.ENUM_ST_SHNDX)
    if section == SHN_XINDEX and wide_section is not None:
        section = wide_section()
    bind = number(entry["st_info"]["bind"], enums.ENUM_ST_INFO_BIND)
    kind = number(entry["st_info"]["type"], enums.ENUM_ST_INFO_TYPE)
    visibility = number(entry["st_other"]["visibility"], enums.ENUM_ST_VISIBILITY)
    local = number(entry["st_other"]["local"], enums.ENUM_ST_LOCAL)
    return _Symbol(
        *(symbol.name, entry["st_value"], entry["st_size"]),
        *(bind << 4 | kind, local << 5 | visibility, section),
    )
