"""The table of call sites that the kernel's inline static calls read (`--emit-sites`).

A kernel with HAVE_STATIC_CALL_INLINE patches call sites, not only trampolines, and finds them in
the section `.static_call_sites`: struct static_call_site of include/linux/static_call_types.h, two
32-bit words, each the distance from itself to what it names: the `bl` and the static call's key.
The kernel keeps two flags in the low bits of the second word. STATIC_CALL_SITE_TAIL is set for a
sibling call, which only code that does not use r2 has: others are refused. The kernel sets the flag
for what lies in init sections itself (__static_call_init in kernel/static_call_inline.c). On x86
objtool makes the same table (create_static_call_sections in tools/objtool/check.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.additions import Additions
from scpatch.elf.encoding import Encoding
from scpatch.elf.reader import ElfFile
from scpatch.elf.structures import CodePlace
from scpatch.elf.symtab import SymbolTable
from scpatch.errors import ScpatchError
from scpatch.ppc64.insn import direct_target, links
from scpatch.ppc64.relocs import R_PPC64_REL32, R_PPC64_REL64
from scpatch.sites.actions import Common
from scpatch.sites.model import Scan, Site
from scpatch.strategies.plans import ListedSite, NewStub, Plan

SECTION = ".static_call_sites"
ENTRY_SIZE = 8
"""Bytes of a struct static_call_site."""

_ALIGN = 4
_TRAMPOLINE, _KEY = "__SCT__", "__SCK__"
"""Prefixes of STATIC_CALL_TRAMP and STATIC_CALL_KEY in include/linux/static_call_types.h."""
_TAIL, _FLAGS = 1, 3
"""STATIC_CALL_SITE_TAIL (the site is a `b`) and STATIC_CALL_SITE_FLAGS. Keys are aligned to 8."""
_UNLISTED = frozenset({Common.LOADER, Common.REFUSED})
"""Sites that must call the trampoline: calls that the module loader sends through its own stub,
and refused ones."""
_TEMPLATES = "__ftr_alt_"
"""Prefix of sections whose code the kernel copies at its start, and runs where it copied it to."""


class _Key(NamedTuple):
    """The second word of an entry."""

    place: CodePlace
    """Where the key is; (0, symbol index) if the object does not define it."""
    symbol: int
    name: str


class _TableEntry(NamedTuple):
    """One struct static_call_site; in the order of the kernel's sort, by key."""

    key: _Key
    call: CodePlace
    """Where the `bl` is."""
    section_name: str
    flags: int


def add(elf: ElfFile, scan: Scan, plan: Plan, additions: Additions) -> tuple[ListedSite, ...]:
    """Adds the table for the sites of `plan` to `additions`, and returns its entries.

    Adds nothing if there are no entries, or if the object has this table already.

    Raises SCP216 if it has another table, SCP217 for a site without a key, and SCP218 if no symbol
    can name a site.
    """
    symbols = elf.symbols
    entries = _entries(elf, symbols, scan, plan) if symbols is not None else []
    if tables := elf.sections_named(SECTION):
        _check_present(elf, tables, entries)
    elif symbols is not None and entries:
        bases = _bases(elf, symbols, {entry.call[0] for entry in entries})
        section = additions.add_section(
            SECTION,
            c.SHT_PROGBITS,
            c.SHF_ALLOC | c.SHF_WRITE,
            bytes(ENTRY_SIZE * len(entries)),
            align=_ALIGN,
            entry_size=ENTRY_SIZE,
        )
        additions.add_section(
            ".rela" + SECTION,
            c.SHT_RELA,
            c.SHF_INFO_LINK,
            b"".join(_relocations(elf.encoding, entries, bases)),
            align=8,
            entry_size=c.RELA_SIZE,
            link=symbols.index,
            info=section,
        )
    return tuple(ListedSite(e.call[0], e.section_name, e.call[1], e.key.name) for e in entries)


def _entries(elf: ElfFile, symbols: SymbolTable, scan: Scan, plan: Plan) -> list[_TableEntry]:
    """The table, sorted by the keys' addresses as far as the object knows them: the kernel sorts
    it again when all are known."""
    keys = _keys(symbols)
    trampolines = {
        trampoline.name: trampoline.symbol
        for trampoline in scan.trampolines
        if not trampoline.defined
    }
    thunks = _thunks(elf.encoding, scan, plan.stubs)
    entries = []
    for site in plan.sites:
        if not _is_listed(site):
            continue
        key = _key(elf, site, keys, trampolines if scan.module else {})
        place = _place(symbols, key, 0) or (0, key)
        call = _call(symbols, site, thunks)
        named = _Key(place, key, symbols.name(key))
        is_tail = call == (site.section, site.offset) and not links(site.word)
        flags = _TAIL if is_tail else 0
        entries.append(_TableEntry(named, call, site.section_name, flags))
    return sorted(entries)


def _is_listed(site: Site) -> bool:
    """Whether the kernel may patch a site."""
    if site.state in _UNLISTED or site.section_name.startswith(_TEMPLATES):
        return False
    return site.state is not Common.NOTOC or site.may_patch


def _keys(symbols: SymbolTable) -> dict[str, int]:
    """The keys by name; 0 if several symbols have the name, since any of them could be meant."""
    keys: dict[str, int] = {}
    for index in symbols.with_prefix(_KEY.encode()):
        if symbols[index].type not in (c.STT_SECTION, c.STT_FILE):
            name = symbols.name(index)
            keys[name] = 0 if name in keys else index
    return keys


def _key(elf: ElfFile, site: Site, keys: Mapping[str, int], trampolines: Mapping[str, int]) -> int:
    """The symbol for the second word of a site's entry.

    Where the kernel exports a trampoline without its key (EXPORT_STATIC_CALL_TRAMP), a module's
    entry names the trampoline, and static_call_add_module() looks the key up.
    """
    name = site.trampoline
    key = _KEY + name.removeprefix(_TRAMPOLINE)
    known = keys if key in keys else {key: trampolines.get(name, 0)}
    if name.startswith(_TRAMPOLINE) and (index := known[key]):
        return index
    what = f"two symbols are named {key}" if key in keys else f"there is no symbol {key}"
    if not name.startswith(_TRAMPOLINE):
        what = f"the trampoline {name} is not named {_TRAMPOLINE}*"
    message = f"the call has no key: {what}"
    raise ScpatchError("SCP217", message, file=elf.name, where=site.place)


def _place(symbols: SymbolTable, index: int, addend: int) -> CodePlace | None:
    """What a symbol + addend names; None if the object does not define it."""
    section = symbols.section_index(index)
    if section == 0 or (section >= c.SHN_LORESERVE and symbols.st_shndx[index] != c.SHN_XINDEX):
        return None
    return section, symbols.st_value[index] + addend


def _thunks(encoding: Encoding, scan: Scan, new: Iterable[NewStub]) -> dict[CodePlace, CodePlace]:
    """The `bl` inside each thunk, by the thunk's place, and for those that are just being made by
    the place of the site: its relocation does not name the thunk yet."""
    thunks = {
        (stub.section, stub.value): (stub.section, stub.value + 4)
        for stub in scan.stubs
        if stub.is_thunk
    }
    for stub in new:
        if stub.is_thunk:
            last = len(stub.code) - 4
            word = encoding.word(stub.code, last)
            resume = direct_target(word, stub.offset + last)
            assert resume is not None, "a thunk ends with a branch"
            thunks[stub.section, resume - 4] = stub.section, stub.offset + 4
    return thunks


def _call(symbols: SymbolTable, site: Site, thunks: Mapping[CodePlace, CodePlace]) -> CodePlace:
    """Where the site's `bl` is: in its thunk, if it has one."""
    here = site.section, site.offset
    if site.state is Common.DONE:
        callee = _place(symbols, site.symbol, site.addend)
        return thunks.get(callee, here) if callee is not None else here
    return thunks.get(here, here)


def _bases(elf: ElfFile, symbols: SymbolTable, sections: set[int]) -> dict[int, tuple[int, int]]:
    """A symbol to name each section by, as (symbol index, value).

    The section symbol, else a symbol in it that no other object can replace. Raises SCP218.
    """
    ranks: dict[int, tuple[int, int, int]] = {}
    for index, section in symbols.homes(sections).items():
        symbol = symbols[index]
        inside = symbol.st_value <= elf.sections[section].sh_size
        if inside and symbol.binding in (c.STB_LOCAL, c.STB_GLOBAL):
            rank = 0 if symbol.type == c.STT_SECTION else 1 + symbol.binding
            best = ranks.get(section)
            if best is None or rank < best[0]:
                ranks[section] = rank, index, symbol.st_value
    for section in sorted(sections - ranks.keys()):
        message = f"no symbol can name a place in {elf.section_name(section)} for {SECTION}"
        raise ScpatchError("SCP218", message, file=elf.name)
    return {section: (index, value) for section, (_, index, value) in ranks.items()}


def _relocations(
    encoding: Encoding, entries: Sequence[_TableEntry], bases: Mapping[int, tuple[int, int]]
) -> Iterable[bytes]:
    for number, entry in enumerate(entries):
        section, offset = entry.call
        symbol, value = bases[section]
        at = number * ENTRY_SIZE
        yield encoding.pack_relocation(at, symbol, R_PPC64_REL32, offset - value)
        yield encoding.pack_relocation(at + 4, entry.key.symbol, R_PPC64_REL32, entry.flags)


def _check_present(elf: ElfFile, tables: Sequence[int], entries: Sequence[_TableEntry]) -> None:
    """Raises SCP216 unless the tables that are there list exactly `entries`, in any order."""
    wanted = {(entry.call, entry.key.place, entry.flags) for entry in entries}
    for table in tables:
        if (wide := _wide(elf, table)) is not None:
            what = f"the 32-bit word at {SECTION}+{wide:#x} has a relocation for 64 bits"
            raise ScpatchError("SCP216", what, file=elf.name)
    size = sum(elf.sections[table].sh_size for table in tables)
    # The size first, so that a forged table is not read to its end.
    present = (_read(elf, table) for table in tables)
    if size != ENTRY_SIZE * len(wanted) or wanted != set(chain.from_iterable(present)):
        count = f"{size // ENTRY_SIZE} entries"
        what = f"it has {SECTION} with {count}, which are not its {len(wanted)} calls"
        raise ScpatchError("SCP216", what, file=elf.name)


def _wide(elf: ElfFile, section: int) -> int | None:
    """The offset of a word with R_PPC64_REL64, as objtool --static-call writes it for ppc64."""
    table = elf.relocations(section)
    if table is None:
        return None
    words = (table[index] for index in range(len(table)))
    return next((at for at, info, _ in words if info & 0xFFFFFFFF == R_PPC64_REL64), None)


def _read(
    elf: ElfFile, section: int
) -> Iterable[tuple[CodePlace | None, CodePlace | None, int | None]]:
    """The (call, key, flags) of each entry of a table; None for what is no such word."""
    table, symbols = elf.relocations(section), elf.symbols
    words: dict[int, tuple[CodePlace, int]] = {}
    for index in range(len(table) if table is not None else 0):
        assert table is not None, "a table without relocations has no entries"
        assert symbols is not None, "relocations name symbols"
        offset, info, addend = table[index]
        if info & 0xFFFFFFFF == R_PPC64_REL32:
            symbol = info >> 32
            flags = addend & _FLAGS if offset % ENTRY_SIZE else 0
            # An undefined key is named itself.
            place = _place(symbols, symbol, addend - flags)
            words[offset] = place or (0, symbol if addend == flags else -1), flags
    size = elf.sections[section].sh_size
    for at in range(0, size, ENTRY_SIZE):
        call, key = words.get(at, (None, None)), words.get(at + 4, (None, None))
        yield call[0], *key
