"""Why r2 is right after one call, in one object: the judgement of a single call site."""

from __future__ import annotations

from dataclasses import dataclass

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.read import Place
from scpatch.verifier.objects.relocations import PLTCALL_NOTOC, REL24, REL24_NOTOC, REL24_P9NOTOC
from scpatch.verifier.objects.variant import BL as BL_WORD
from scpatch.verifier.objects.variant import LD_R2, NOPS, B
from scpatch.verifier.proof.added import reaches, thunk_returns
from scpatch.verifier.reasons import paca
from scpatch.verifier.search.entries import Entries
from scpatch.verifier.search.frame import is_saved

_DISTANCE = 0x3FFFFFC
"""The bits of an I-form branch that say how far it goes."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What holds at a site of one object.

    `how` is `stub`, `thunk`, `own` (the function's own save), `unshown` (restored, its save not
    shown), `paca`, `trampoline`, `elsewhere`, `linker`, `loader`, `notoc` or `wrong`.
    """

    how: str
    why: str
    resume: int
    saved: bool = False
    """The function's own save covers the site, or must: nothing else does."""
    offset: int | None = None
    """Where in the PACA r2 is loaded from, in bytes."""

    @property
    def right(self) -> bool:
        return self.how not in ("wrong", "unshown")


def judge(entries: Entries, site: Site) -> Judgement:
    """Say why r2 is right after the call at `site`, or why not."""
    calls = entries.calls
    word, after = calls.word(site.place), calls.word(_next(site))
    paca_toc = paca.offset(after)
    restored = after in NOPS or after == LD_R2 or paca_toc is not None
    resume = site.place.offset + (8 if restored else 4)
    if site.rela.type in (REL24_NOTOC, REL24_P9NOTOC, PLTCALL_NOTOC):
        return Judgement("notoc", "its code does not use r2", site.place.offset + 4)
    if why := _kept(entries, site):
        defined = site.trampoline.place.section > 0
        return Judgement("trampoline" if defined else "elsewhere", why, resume)
    if fault := _form(entries, site):
        return Judgement("wrong", fault, resume)
    if site.stub is not None and site.stub.thunk:
        return _thunk(entries, site)
    if word & ~_DISTANCE != BL_WORD:  # a relocation fills in the distance
        return Judgement("wrong", "a sibling call: nothing can restore r2 after it", resume)
    if paca_toc is not None:
        return _paca(entries, site, paca_toc, resume)
    return _called(entries, site, after, resume)


def _called(entries: Entries, site: Site, after: int, resume: int) -> Judgement:
    """Of a `bl` whose r2, if restored, comes from 24(r1)."""
    calls = entries.calls
    if site.stub is not None:
        return _stub(entries, site, resume)
    if site.trampoline.is_indirect:
        return _indirect(entries, site, after, resume)
    if calls.stub_by_loader(site.trampoline):
        if after == 0x60000000:
            return Judgement("loader", "the module loader saves and restores r2", resume)
        return Judgement("wrong", "the module loader expects a nop after this call", resume)
    if not calls.module and (why := _linkers(entries, site, after)):
        return Judgement("linker", why, resume)
    if after != LD_R2:
        what = f"{_behind(site, after)} follows: r2 stays what the target made it"
        return Judgement("wrong", what, resume)
    return _own(entries, site, resume)


def _behind(site: Site, after: int) -> str:
    """What a call without a restore has behind it."""
    if after not in NOPS:
        return "no nop"
    if site.trampoline.marked:
        return "the relocation names no marked symbol, so that no linker sees the mark: a nop"
    return "a nop"


def _kept(entries: Entries, site: Site) -> str:
    """Why the trampoline alone makes the call right, whatever follows it; else empty.

    A call with a restore behind it needs its save.
    """
    keepers, trampoline = entries.keepers, site.trampoline
    direct = site.rela.type == REL24 and not site.distance and not site.place.offset % 4
    direct = direct and entries.calls.word(site.place) & ~0x3FFFFFD == B
    restored = entries.calls.word(_next(site)) == LD_R2
    if not keepers.noted or not direct or restored or site.stub is not None:
        return ""
    if trampoline.place.section:
        return "" if keepers.kept(trampoline).fault else "its trampoline keeps r2"
    if entries.calls.module or trampoline.symbol.section:
        return ""
    return "its trampoline, which another object defines, is to keep r2"


def _linkers(entries: Entries, site: Site, after: int) -> str:
    """Why the linker saves and restores r2; empty where it does not.

    It looks at the symbol that the relocation names, not at what lies where that leads to, and
    takes a restore that is in place already for a nop.
    """
    calls = entries.calls
    if site.resolved:
        return ""
    if site.trampoline.place.section:
        named = calls.image.symbols[site.rela.symbol]
        if named.other >> 5 == 1 and (after in NOPS or after == LD_R2):
            return "st_other = 1: the linker saves and restores r2"
    elif not site.trampoline.symbol.section and "localentry" in calls.noted and after in NOPS:
        return "the linker saves and restores r2 if the trampoline is marked where it is defined"
    return ""


def _next(site: Site) -> Place:
    return Place(site.place.section, site.place.offset + 4)


def _indirect(entries: Entries, site: Site, after: int, resume: int) -> Judgement:
    """Of a call of an STT_GNU_IFUNC."""
    named = entries.calls.image.symbols[site.rela.symbol]
    if entries.calls.module or site.resolved or named.type != site.trampoline.symbol.type:
        return Judgement("wrong", "no linker sees that it calls an STT_GNU_IFUNC", resume)
    if after in NOPS or after == LD_R2:
        why = "it calls an STT_GNU_IFUNC: the linker's PLT stub saves r2, the linker restores it"
        return Judgement("linker", why, resume)
    return Judgement("wrong", f"{_behind(site, after)} follows", resume)


def _form(entries: Entries, site: Site) -> str:
    """What makes the call none that can be right, whatever follows it; else empty."""
    if site.trampoline.is_data:
        return "its trampoline is data, by its type or its section"
    if site.resolved and site.distance:
        return "it goes to the trampoline's global entry point, which sets r2"
    if site.rela.type != REL24:
        return f"relocation type {site.rela.type}: a branch that saves nothing"
    if site.distance:
        return f"it lands {site.distance:#x} bytes behind the trampoline's entry"
    if site.place.offset % 4:
        return "it lies at no instruction"
    if site.stub is None:
        return ""
    if site.stub.fault:
        return f"{site.stub.symbol.name}: {site.stub.fault}"
    if not reaches(site.place, site.stub.place):
        return f"{site.stub.symbol.name} lies in another section or out of reach"
    return ""


def _restore_fault(entries: Entries, site: Site) -> str:
    """Why the `ld r2,24(r1)` after a call is not executed as the restore of this call alone."""
    if fault := _change_fault(entries, site):
        return fault
    if reason := entries.entered(_next(site)):
        return f"the restore may run without the call: {reason}"
    return ""


def _change_fault(entries: Entries, site: Site) -> str:
    after = _next(site)
    if after in entries.calls.other_relocations or after in entries.calls.branches:
        return "a relocation applies to the word after the call"
    if reason := entries.changes.apart(after):
        return f"the kernel patches the call and its restore apart: {reason}"
    return ""


def _stub(entries: Entries, site: Site, resume: int) -> Judgement:
    assert site.stub is not None
    image, name = entries.calls.image, site.stub.symbol.name
    restored = f"{image.sections[site.place.section].name}+{site.place.offset + 4:#x}"
    if entries.calls.word(_next(site)) != LD_R2:
        return Judgement("wrong", f"saved by {name}, but not restored at {restored}", resume)
    if fault := _restore_fault(entries, site):
        return Judgement("wrong", fault, resume)
    where = f"{image.sections[site.stub.place.section].name}+{site.stub.place.offset:#x}"
    return Judgement("stub", f"saved by {name} ({where}), restored at {restored}", resume)


def _thunk(entries: Entries, site: Site) -> Judgement:
    assert site.stub is not None
    calls, stub = entries.calls, site.stub
    resume = site.place.offset + 4
    where = f"{stub.symbol.name} ({calls.image.sections[stub.place.section].name}"
    where += f"+{stub.place.offset:#x})"
    if calls.word(site.place) & ~(_DISTANCE if site.resolved else 0) != B:
        return Judgement("wrong", f"{stub.symbol.name} must be reached by b, not bl", resume)
    if not thunk_returns(calls, stub, resume):
        return Judgement("wrong", f"{stub.symbol.name} does not return to this call", resume)
    return Judgement("thunk", f"saved and restored by {where}", resume)


def _paca(entries: Entries, site: Site, offset: int, resume: int) -> Judgement:
    if entries.calls.module:
        why = f"ld r2,{offset}(r13) loads the kernel's TOC pointer, and this is a module"
        return Judgement("wrong", why, resume)
    if site.trampoline.marked:
        why = "st_other = 1: the linker wants a nop behind the call"
        return Judgement("wrong", why, resume)
    if fault := _change_fault(entries, site):
        return Judgement("wrong", fault, resume)
    return Judgement("paca", f"r2 is loaded from the PACA, {offset}(r13)", resume, offset=offset)


def _own(entries: Entries, site: Site, resume: int) -> Judgement:
    if fault := _restore_fault(entries, site):
        return Judgement("wrong", fault, resume)
    answer = is_saved(entries, site.place)
    section = entries.calls.image.sections[site.place.section].name
    if answer.fault:
        why = f"restored at {section}+{site.place.offset + 4:#x}, its save not shown"
        return Judgement("unshown", f"{why}: {answer.fault}", resume, saved=True)
    why = f"the function saves r2 itself ({answer.named(section)}), restored at "
    why += f"{section}+{site.place.offset + 4:#x}"
    return Judgement("own", why, resume, saved=True)
