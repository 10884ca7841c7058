"""Which relocation tables apply to which section, and the tables that cannot be read.

A table that nobody reads hides calls and labels. So every section that could hold relocations of
code or of data in memory is either a SHT_RELA table or an error.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.structures import Section
from scpatch.errors import ScpatchError, damaged

LOADED = c.SHF_ALLOC | c.SHF_EXECINSTR
"""Flags of sections that are in memory or hold code; one of them is enough."""
_OTHER_FORMS = {
    c.SHT_REL: "SHT_REL",
    c.SHT_RELR: "SHT_RELR",
    c.SHT_CREL: "SHT_CREL",
    c.SHT_SECONDARY_RELOC: "SHT_SECONDARY_RELOC",
    c.SHT_ANDROID_REL: "SHT_ANDROID_REL",
    c.SHT_ANDROID_RELA: "SHT_ANDROID_RELA",
    c.SHT_ANDROID_RELR: "SHT_ANDROID_RELR",
}
_NO_RELOCATIONS = frozenset(
    (
        *(c.SHT_NULL, c.SHT_PROGBITS, c.SHT_SYMTAB, c.SHT_STRTAB, c.SHT_HASH, c.SHT_DYNAMIC),
        *(c.SHT_NOTE, c.SHT_NOBITS, c.SHT_SHLIB, c.SHT_DYNSYM, c.SHT_INIT_ARRAY),
        *(c.SHT_FINI_ARRAY, c.SHT_PREINIT_ARRAY, c.SHT_GROUP, c.SHT_SYMTAB_SHNDX),
        *(c.SHT_GNU_ATTRIBUTES, c.SHT_GNU_HASH, c.SHT_GNU_LIBLIST, c.SHT_GNU_VERDEF),
        *(c.SHT_GNU_VERNEED, c.SHT_GNU_VERSYM),
    )
)
"""Types whose sh_info names no section, or whose content is no relocations."""


class Tables(NamedTuple):
    """The SHT_RELA sections of one section."""

    ordinary: int
    """The table that the linker or module loader applies; 0 if there is none."""
    livepatch: tuple[int, ...] = ()
    """Those that the kernel applies when the module OBJ is loaded: `.klp.rela.OBJ.SECTION`, with
    the flag SHF_RELA_LIVEPATCH (Linux, Documentation/livepatch/module-elf-format.rst)."""


class _Sections(NamedTuple):
    file: str
    headers: Sequence[Section]
    name: Callable[[int], str]
    """The name of the section at an index."""


def find_tables(
    file: str, headers: Sequence[Section], name: Callable[[int], str]
) -> Mapping[int, Tables]:
    """Section index -> its relocation tables.

    Raises SCP116 for relocations of another form, SCP118 for relocated code that is not in the
    file, and SCP107 for a second table of a section or one of a section that does not exist.
    """
    sections = _Sections(file, headers, name)
    tables: dict[int, Tables] = {}
    for index, section in enumerate(headers):
        kind, target = section.sh_type, section.sh_info
        if kind in _NO_RELOCATIONS:
            continue
        if kind != c.SHT_RELA:
            _check_other(sections, index)
        elif target >= len(headers):
            what = f"section {index} (SHT_RELA) names section {target}, there are {len(headers)}"
            raise damaged(file, what)
        elif target:
            _check(sections, index)
            tables[target] = _with_table(sections, tables.get(target, Tables(0)), index)
        elif section.sh_size:
            raise _unread(sections, index, "does not say which section it relocates (sh_info is 0)")
    return tables


def _with_table(sections: _Sections, known: Tables, index: int) -> Tables:
    section = sections.headers[index]
    if section.sh_flags & c.SHF_RELA_LIVEPATCH:
        return known._replace(livepatch=(*known.livepatch, index))
    if known.ordinary:
        raise damaged(sections.file, f"section {section.sh_info} has two SHT_RELA tables")
    return known._replace(ordinary=index)


def _check(sections: _Sections, index: int) -> None:
    """Raises SCP116 or SCP118 for a SHT_RELA table that cannot be taken as it is."""
    table = sections.headers[index]
    target = sections.headers[table.sh_info]
    if not target.sh_flags & LOADED or not table.sh_size:
        return
    if table.sh_flags & c.SHF_COMPRESSED:
        name = sections.name(table.sh_info)
        raise _unread(sections, index, f"relocates {name} and is compressed")
    if target.sh_type in (c.SHT_NULL, c.SHT_NOBITS) and target.sh_flags & c.SHF_EXECINSTR:
        what = f"the code of {sections.name(table.sh_info)} is not in this file (SHT_NOBITS)"
        raise ScpatchError("SCP118", what, file=sections.file)


def _check_other(sections: _Sections, index: int) -> None:
    """Raises SCP116 for what may be relocations of code or of data in memory, but no SHT_RELA."""
    headers = sections.headers
    section = headers[index]
    form = _OTHER_FORMS.get(section.sh_type)
    target = section.sh_info
    if not section.sh_size or (form is None and not target) or target >= len(headers):
        return
    if target and not headers[target].sh_flags & LOADED:
        return
    applies = f"relocates {sections.name(target)}" if target else "holds relocations"
    kind = form or f"section type {section.sh_type:#x}"
    raise _unread(sections, index, f"{applies} as {kind}; only SHT_RELA is read")


def _unread(sections: _Sections, index: int, what: str) -> ScpatchError:
    return ScpatchError("SCP116", f"{sections.name(index)} {what}", file=sections.file)
