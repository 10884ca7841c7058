"""What is to happen to an object. Data only."""

from typing import NamedTuple, Self

from scpatch.elf.layout import Edits
from scpatch.elf.reader import ElfFile
from scpatch.sites.actions import Common
from scpatch.sites.model import Site, Trampoline


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
    is_thunk: bool = False
    """It calls the trampoline and branches back, for one site."""

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

    @classmethod
    def of(cls, elf: ElfFile, trampoline: Trampoline, what: str) -> Self:
        name = elf.section_name(trampoline.section)
        return cls(trampoline.name, trampoline.section, name, trampoline.value, what)


class ListedSite(NamedTuple):
    """An entry of `.static_call_sites`."""

    section: int
    section_name: str
    offset: int
    """Section offset of the `bl`; for a site with a thunk, of the one in the thunk."""
    key: str
    """The symbol of the static call's key, or of its trampoline if a module cannot see the
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
    """What changes in the file; false if nothing does."""

    @property
    def refused(self) -> tuple[Site, ...]:
        return tuple(site for site in self.sites if site.state is Common.REFUSED)

    @property
    def changed(self) -> tuple[Site, ...]:
        return tuple(site for site in self.sites if site.state.changes)

    @property
    def code_bytes(self) -> int:
        """Bytes by which code sections grow, padding and branches included."""
        grown = {stub.section for stub in self.stubs}
        return sum(len(self.edits.sections[section].tail) for section in grown)
