"""Trampolines, stubs and call sites. Data only.

Data that every run needs is in named tuples: they are as frozen as a frozen dataclass, and take a
seventh of the time to define, which a build pays for each object.
"""

from collections import Counter
from enum import Enum, auto
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.ppc64.variant import clobbers_r2, local_entry_offset
from scpatch.sites.actions import Action, Common, Undecided
from scpatch.sites.choices import Choices


class Kind(Enum):
    """What a call site is. Of the kinds from NO_NOP on, `code` and `detail` say what is wrong."""

    OPEN = auto()
    """A `bl` and a nop that nothing else needs. Nothing restores r2."""
    RESTORED = auto()
    """r2 is restored after the call."""
    LINKER = auto()
    """The linker saves and restores r2: the trampoline has no local entry point (st_other bits
    5-7 = 1), or is STT_GNU_IFUNC."""
    LOADER = auto()
    """The trampoline is undefined and left to the module loader, which saves and restores r2.
    What a livepatch names always is: the kernel relocates it as the loader would."""
    NOTOC = auto()
    """The caller does not use r2 (REL24_NOTOC, REL24_P9NOTOC)."""
    NO_NOP = auto()
    """No nop follows the call."""
    ENTERED = auto()
    """Control can reach the nop from elsewhere than from the call."""
    RELOCATED = auto()
    """A relocation applies to the nop."""
    PATCHED = auto()
    """The kernel patches the call and the nop apart."""
    SIBLING = auto()
    """A `b`: the trampoline returns to the caller's caller."""
    RESOLVED = auto()
    """The assembler has resolved the call, and it cannot be sent elsewhere."""
    UNNAMED = auto()
    """A call of a marked trampoline by another symbol, at which no linker sees the mark."""
    FAULTY = auto()
    """Anything else that cannot be rewritten."""


NOP_FAULTS = frozenset({Kind.NO_NOP, Kind.ENTERED, Kind.RELOCATED, Kind.PATCHED})
"""Calls with nothing wrong but that no nop is there for a restore."""

_NO_CODE = frozenset({c.STT_OBJECT, c.STT_COMMON, c.STT_TLS})


Place = tuple[int, int]
"""(section index, section offset)"""


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
    def entry_place(self) -> Place:
        """Where its global entry point is; several names may share it."""
        return self.section, self.value

    @property
    def local_entry(self) -> int:
        """Section offset of the local entry point."""
        return self.value + local_entry_offset(self.st_other)


class Stub(NamedTuple):
    """Code that a rewrite has added: it saves r2 and goes on to a trampoline."""

    name: str
    trampoline: str
    symbol: int
    section: int
    value: int
    """Section offset of its first instruction."""
    size: int
    is_thunk: bool
    """It calls the trampoline, restores r2 and branches back; the call site branches to it."""


Callee = Trampoline | Stub


class Traces(NamedTuple):
    """What rewriting has left in a file."""

    strategies: tuple[str, ...] = ()
    """The strategies that the file says it was rewritten with."""
    stubs: tuple[Stub, ...] = ()
    copies: frozenset[Place] = frozenset()
    """Branches of stubs that have no symbol any more, and that nothing runs."""
    keeps: bool = False
    """Something else than stubs preserves r2 across the calls of the file."""


class Site(NamedTuple):
    """A call site: a branch to a trampoline, or to a stub for one."""

    section: int
    section_name: str
    offset: int
    """Section offset of the branch."""
    function: str
    """The function around it; empty if no symbol covers it."""
    function_offset: int
    """Offset of the branch from the start of `function`."""
    trampoline: str
    callee: Callee
    """What the branch leads to."""
    relocation: int = -1
    """Index in the section's SHT_RELA table; -1 if the branch has no relocation."""
    symbol: int = 0
    addend: int = 0
    """What the relocation names: an index in .symtab, and r_addend."""
    word: int = 0
    """The branch instruction."""
    after: int | None = None
    """The word after it; None at the end of the section."""
    kind: Kind = Kind.OPEN
    may_patch: bool = False
    """Of a NOTOC call: a `b` or `bl` straight to a trampoline that takes nothing in r2, so that the
    kernel may patch it to go to another such function."""
    saved: bool = False
    """r2 is in 24(r1) on every path to an OPEN call, or can be put there by `saves`."""
    saves: tuple[int, ...] = ()
    """Section offsets of nops before the call that can save r2 for it."""
    state: Action = Undecided.UNDECIDED
    """What becomes of the call, once a strategy has decided."""
    code: str = ""
    """The diagnostic of what is wrong with it."""
    detail: str = ""
    """One sentence: why it is refused, or what restores r2."""
    line: str = ""
    """`FILE:LINE`, if DWARF has it."""
    file_offset: int = -1
    """Of the branch, in bytes from the start of the object; -1 if it is not known."""

    @property
    def place(self) -> str:
        """`.text+0x1a0 in tcp_sendmsg+0x40`"""
        spot = f"{self.section_name}+{self.offset:#x}"
        return f"{spot} in {self.function}+{self.function_offset:#x}" if self.function else spot

    def fault(self, code: str, detail: str, kind: Kind = Kind.FAULTY) -> "Site":
        """The site with what is wrong with it."""
        return self._replace(kind=kind, code=code, detail=detail)

    def refused(self, code: str, detail: str) -> "Site":
        """The site, refused by a strategy."""
        return self._replace(state=Common.REFUSED, code=code, detail=detail)

    @property
    def settled(self) -> "Site":
        """The site with what becomes of it if a strategy does nothing about it."""
        return self._replace(state=_SETTLED.get(self.kind, Common.REFUSED))


_SETTLED = {
    Kind.RESTORED: Common.DONE,
    Kind.LINKER: Common.LINKER,
    Kind.LOADER: Common.LOADER,
    Kind.NOTOC: Common.NOTOC,
}


class Scan(NamedTuple):
    """What a file holds."""

    trampolines: tuple[Trampoline, ...] = ()
    stubs: tuple[Stub, ...] = ()
    sites: tuple[Site, ...] = ()
    module: bool = False
    """Whether the object is a linked kernel module (.ko)."""
    strategies: tuple[str, ...] = ()
    """The strategies that it says it was rewritten with."""
    image: bool = False
    """Whether it is a linked image, such as vmlinux."""
    choices: Choices = Choices()
    """With which the sites were found."""

    @property
    def calls(self) -> Counter[str]:
        """Name of a trampoline -> number of its call sites."""
        return Counter(site.trampoline for site in self.sites)

    @property
    def names(self) -> frozenset[str]:
        """The names of trampolines that there are, or that are called."""
        called = frozenset(site.trampoline for site in self.sites)
        return called | frozenset(trampoline.name for trampoline in self.trampolines)
