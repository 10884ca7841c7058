"""What the other modules talk about: trampolines, stubs, call sites and plans. Data only.

Data that every run needs is in named tuples: they are as frozen as a frozen dataclass, and take a
seventh of the time to define, which a build pays for each object.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.layout import Edits
from scpatch.ppc64.variant import clobbers_r2, local_entry_offset


class State(StrEnum):
    """What a call site is, and so what is to be done with it."""

    REWRITE = "rewrite"
    """`bl` + nop: r2 is to be saved by a stub and restored in place of the nop."""
    SAVED = "saved"
    """`bl` + nop, and r2 lies in 24(r1) on every path here, or can be stored there in a nop on the
    way: only nops change."""
    THUNK = "thunk"
    """`bl` without a nop: the call is to go through a thunk of its own (`--no-nop thunk`)."""
    PACA = "paca"
    """`bl` + nop: r2 is to be loaded from the PACA in place of the nop, nothing is saved."""
    TRAMPOLINE = "trampoline"
    """The call stays as it is: its trampoline keeps r2, or is to."""
    DONE = "done"
    """The restore is in place already."""
    LINKER = "linker"
    """The trampoline has no local entry point (st_other bits 5-7 = 1): the linker saves and
    restores r2."""
    LOADER = "loader"
    """The trampoline is undefined and left to the module loader, which saves and restores r2.
    What a livepatch names always is: the kernel relocates it as the loader would."""
    NOTOC = "notoc"
    """The caller does not use r2 (REL24_NOTOC, REL24_P9NOTOC)."""
    REFUSED = "refused"
    """Cannot be rewritten; `code` says why."""


CHANGED = frozenset({State.REWRITE, State.SAVED, State.THUNK, State.PACA})
"""The states of the sites that `rewrite` changes."""


_NO_CODE = frozenset({c.STT_OBJECT, c.STT_COMMON, c.STT_TLS})


class Trampoline(NamedTuple):
    """A symbol that the kernel patches at run time to branch to a static call's target."""

    name: str
    symbol: int
    """Index in .symtab."""
    section: int
    """Section index; 0 if no section of the object holds it."""
    value: int
    """Section offset of the global entry point."""
    size: int
    st_info: int
    st_other: int
    reserved: int = 0
    """Its st_shndx if that is a reserved value, such as SHN_ABS, which is no index of a section."""
    in_data: bool = False
    """Whether the section that holds it is not executable."""

    @property
    def defined(self) -> bool:
        return self.section != 0

    @property
    def local(self) -> bool:
        return self.st_info >> 4 == c.STB_LOCAL

    @property
    def is_code(self) -> bool:
        """Whether the symbol can name code: data, thread-local and common symbols do not."""
        if self.in_data or self.reserved == c.SHN_COMMON:
            return False
        return self.st_info & 0xF not in _NO_CODE

    @property
    def indirect(self) -> bool:
        """STT_GNU_IFUNC: its code does not run when it is called, but says what to call. The linker
        sends each call through a stub of the PLT that saves r2, and restores r2 in the nop."""
        return self.st_info & 0xF == c.STT_GNU_IFUNC

    @property
    def loaded(self) -> bool:
        """Whether a module's loader makes the stubs for its calls (restore_r2 and
        apply_relocate_add in arch/powerpc/kernel/module_64.c)."""
        return not self.defined and self.reserved in (0, c.SHN_LIVEPATCH)

    @property
    def livepatch(self) -> bool:
        """The kernel finds it, and applies the relocations against it, with a livepatch."""
        return self.reserved == c.SHN_LIVEPATCH

    @property
    def weak_undefined(self) -> bool:
        """If nothing defines it, GNU ld makes a nop of each branch to it (psABI 3.6.3), also of the
        one that ends a stub, and control runs on into whatever follows the stub."""
        return not self.defined and not self.reserved and self.st_info >> 4 == c.STB_WEAK

    @property
    def fits_stub(self) -> bool:
        """Whether a stub's branch to it stays one, and changes no word after it."""
        return not self.weak_undefined and not self.indirect

    @property
    def clobbers_r2(self) -> bool:
        return clobbers_r2(self.st_other)

    @property
    def marked(self) -> bool:
        """Defined here as a function that does not preserve r2: st_other bits 5-7 = 1."""
        return self.defined and clobbers_r2(self.st_other)

    @property
    def local_entry(self) -> int:
        """Section offset of the local entry point."""
        return self.value + local_entry_offset(self.st_other)


class Stub(NamedTuple):
    """Code that an earlier run of scpatch added: `r2save.NAME.DIGEST` or `r2thunk.NAME.DIGEST`."""

    name: str
    trampoline: str
    symbol: int
    section: int
    value: int
    size: int

    @property
    def is_thunk(self) -> bool:
        return self.name.startswith(THUNK_PREFIX)


STUB_PREFIX = "r2save."
THUNK_PREFIX = "r2thunk."
LIVEPATCH_PREFIX = "r2lps."


def added_name(prefix: str, trampoline: str, digest: str) -> str:
    """The name of code that is added for a trampoline. Linkers read a symbol version in what
    follows an `@`, so a trampoline's own one is written as `%40`, and `%` as `%25`."""
    return f"{prefix}{trampoline.replace('%', '%25').replace('@', '%40')}.{digest}"


def trampoline_of(name: str, prefix: str) -> str:
    """The trampoline in such a name, which ends in a dot and twelve digits."""
    return name[len(prefix) : -13].replace("%40", "@").replace("%25", "%")


class Site(NamedTuple):
    """A call site: a branch whose relocation names a trampoline or a stub."""

    section: int
    section_name: str
    offset: int
    """Section offset of the branch."""
    function: str
    """The function around it; empty where no symbol covers it."""
    function_offset: int
    """Offset of the branch from the start of `function`."""
    trampoline: str
    state: State
    relocation: int
    """Index in the section's SHT_RELA table."""
    symbol: int
    addend: int
    """What the relocation names: an index in .symtab, and r_addend."""
    word: int
    """The branch instruction."""
    after: int | None = None
    """The word behind it; None at the end of the section."""
    code: str = ""
    """The diagnostic of a refused site."""
    detail: str = ""
    """One sentence: why it is refused, or what makes it right."""
    line: str = ""
    """`FILE:LINE`, where DWARF has it."""
    saves: tuple[int, ...] = ()
    """Section offsets of nops before it that are to save r2 for it, where it is SAVED."""

    @property
    def place(self) -> str:
        """`.text+0x1a0 in tcp_sendmsg+0x40`"""
        spot = f"{self.section_name}+{self.offset:#x}"
        return f"{spot} in {self.function}+{self.function_offset:#x}" if self.function else spot


class Scan(NamedTuple):
    """What an object holds."""

    trampolines: tuple[Trampoline, ...]
    stubs: tuple[Stub, ...]
    sites: tuple[Site, ...]
    module: bool
    """Whether the object is a linked kernel module (.ko)."""
    strategies: tuple[str, ...] = ()
    """The strategies that it says it was rewritten with."""
    image: bool = False
    """Whether it is a linked image, such as vmlinux."""

    @property
    def calls(self) -> Counter[str]:
        """Name of a trampoline -> number of its call sites."""
        return Counter(site.trampoline for site in self.sites)

    @property
    def names(self) -> frozenset[str]:
        """The names of trampolines that there are, or that are called."""
        called = frozenset(site.trampoline for site in self.sites)
        return called | frozenset(one.name for one in self.trampolines)


TOC_PREFIX = "r2toc."
"""Code that loads a trampoline's TOC pointer in place of its prologue (`localentry`)."""


class NewStub(NamedTuple):
    """Code that the plan adds to a section."""

    name: str
    trampoline: str
    section: int
    section_name: str
    offset: int
    """Section offset of its first instruction."""
    code: bytes
    sites: int
    """How many sites go through it."""

    @property
    def is_thunk(self) -> bool:
        return self.name.startswith(THUNK_PREFIX)

    @property
    def kind(self) -> str:
        return "thunk" if self.is_thunk else "stub"

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.code)


class TrampolineEdit(NamedTuple):
    """A trampoline that the plan changes."""

    name: str
    section: int
    section_name: str
    offset: int
    """Section offset of its global entry point."""
    what: str
    """What is done to it, in a few words: `marked, prologue loads r2 from the PACA`."""


class ListedSite(NamedTuple):
    """An entry of `.static_call_sites`."""

    section: int
    section_name: str
    offset: int
    """Section offset of the `bl`; for a site with a thunk, of the one in the thunk."""
    key: str
    """The symbol of the static call's key, or of its trampoline where a module cannot see the
    key."""


class Plan(NamedTuple):
    """What is to happen to one object: pure data."""

    strategy: str
    sites: tuple[Site, ...]
    stubs: tuple[NewStub, ...] = ()
    trampolines: tuple[TrampolineEdit, ...] = ()
    listed: tuple[ListedSite, ...] = ()
    """The table of call sites that the object gets, or has."""
    edits: Edits = Edits()
    """What changes in the file; false where nothing does."""

    @property
    def refused(self) -> tuple[Site, ...]:
        return tuple(site for site in self.sites if site.state is State.REFUSED)

    @property
    def changed(self) -> tuple[Site, ...]:
        return tuple(site for site in self.sites if site.state in CHANGED)

    @property
    def code_bytes(self) -> int:
        """Bytes by which code sections grow, padding and branches included."""
        grown = {stub.section for stub in self.stubs}
        return sum(len(self.edits.sections[section].tail) for section in grown)
