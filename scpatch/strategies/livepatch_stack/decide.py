"""What becomes of a call site when its trampoline saves r2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from scpatch.ppc64 import insn
from scpatch.sites.actions import Action, Common
from scpatch.sites.model import Kind, Place, Scan, Site, Trampoline
from scpatch.strategies.livepatch_stack.stack_code import SlowPath


class Kept(Action):
    TRAMPOLINE = "trampoline", "kept right by the trampoline"
    """The call stays as it is: its trampoline keeps r2, or is to."""

    @property
    def changes(self) -> bool:
        return False


KEEPS: Final = "the trampoline keeps r2 on the livepatch stack"

_NEEDS_NO_NOP: Final = frozenset(
    {
        Kind.OPEN,
        Kind.NO_NOP,
        Kind.ENTERED,
        Kind.SIBLING,
        Kind.RELOCATED,
        Kind.RESOLVED,
        Kind.PATCHED,
    }
)
"""What is right once the trampoline keeps r2: the call needs no nop, and need not come back."""


def place_of(trampoline: Trampoline) -> Place:
    """Where a trampoline's global entry point is; several names may share it."""
    return trampoline.section, trampoline.value


def is_changed(trampoline: Trampoline) -> bool:
    """Whether a trampoline is defined, and promises to keep r2. With st_other bits 5-7 = 1 it does
    not, and the linker sees to its callers."""
    return trampoline.defined and not trampoline.clobbers_r2 and not trampoline.indirect


def decide(scan: Scan, sites: Sequence[Site], paths: Mapping[Place, SlowPath]) -> tuple[Site, ...]:
    """The `sites` of `scan`, decided if their trampolines are in `paths` or not in the object."""
    return tuple(
        _decide(scan, fact, site, paths) for fact, site in zip(scan.sites, sites, strict=True)
    )


def _decide(scan: Scan, fact: Site, site: Site, paths: Mapping[Place, SlowPath]) -> Site:
    callee = fact.callee
    if not isinstance(callee, Trampoline) or not _is_settled(callee, fact):
        return site
    if not callee.defined:
        return _left_to_another(callee, fact, module=scan.module)
    if (path := paths.get(place_of(callee))) is None:
        return site
    if path.code:
        return fact.refused(path.code, path.fault)
    return fact._replace(state=Kept.TRAMPOLINE, code="", detail=KEEPS)


def _is_settled(trampoline: Trampoline, site: Site) -> bool:
    """Whether a call is right once its trampoline keeps r2."""
    # A call that the assembler has resolved itself may lead to either entry point.
    one_entry = trampoline.value == trampoline.local_entry
    plain = site.kind is not Kind.RESOLVED or (one_entry and insn.is_branch(site.word))
    return site.kind in _NEEDS_NO_NOP and plain


def _left_to_another(trampoline: Trampoline, site: Site, *, module: bool) -> Site:
    """A call of a trampoline that the object does not define."""
    if trampoline.reserved and not (module and trampoline.loaded):
        detail = f"{trampoline.name} is in no section (st_shndx {trampoline.reserved:#x})"
        return site.refused("SCP249", detail)
    if not module:
        detail = "right once the object that defines the trampoline is rewritten as well"
        return site._replace(state=Kept.TRAMPOLINE, code="", detail=detail)
    if site.kind is not Kind.OPEN:
        return site.settled
    return site._replace(state=Common.LOADER, detail="the trampoline is undefined here")
