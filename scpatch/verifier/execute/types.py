"""What goes into a run and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from scpatch.verifier.types import Common, SiteProof


@dataclass(frozen=True, slots=True)
class RunSite:
    """One call site to run. Offsets are section offsets in bytes.

    Sites that need no r2 (R_PPC64_REL24_NOTOC) do not belong here: they fail, and rightly so.
    """

    section: int
    """Section index of the call."""
    section_name: str
    offset: int
    """Offset of the `bl` (or of the `b` to a thunk)."""
    trampoline: str
    """Name of the trampoline that the call leads to, never of the stub."""
    trampoline_section: int
    """Section index of the trampoline; 0: undefined in the object."""
    trampoline_offset: int
    """Offset of its global entry."""
    trampoline_other: int
    """Its st_other; bits 5-7 give the distance of the local entry (ELFv2 ABI, 3.4.1)."""
    resume: int
    """Offset at which control must come back: site+8, or site+4 for a thunk."""
    saved_before: bool
    """The caller itself has saved r2 at 24(r1) before the site."""
    loader: bool
    """In a kernel module, of an undefined trampoline: the module loader makes the stub."""
    marked: bool = False
    """The object does not define the trampoline, and its definition has st_other bits 5-7 = 1."""
    ctr_path: tuple[int, int] | None = None
    """For a trampoline that preserves r2, where its path to a target with another TOC begins, and
    the branch that ends it, which `mtctr r12` precedes: offsets in the trampoline's section. The
    site is run along that path."""
    code: tuple[int, int] | None = None
    """Offset and size of the code that preserves r2, in the same section. An interrupt comes before
    each of its instructions, and the target makes a static call itself."""
    sibling: bool = False
    """The call is a `b`: its target returns to the caller's caller."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one site ran. It passed if there is no reason against it."""

    site: RunSite
    reached: bool
    """The trampoline's target was reached."""
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def run_site(site: SiteProof) -> RunSite:
    """How to run a call site in the second object."""
    return RunSite(
        section=site.section,
        section_name=site.section_name,
        offset=site.offset,
        trampoline=site.trampoline,
        trampoline_section=site.trampoline_section,
        trampoline_offset=site.trampoline_offset,
        trampoline_other=site.trampoline_other,
        resume=site.resume,
        saved_before=site.saved_before,
        loader=site.loader,
        marked=site.state is Common.LINKER,
        ctr_path=site.ctr_path,
        code=site.code,
        sibling=site.sibling,
    )
