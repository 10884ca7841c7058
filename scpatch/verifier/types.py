"""What a proof says: of each call site why r2 is right, and what speaks against the whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SiteProof:
    """One call site and why r2 is right after it. Offsets are section offsets in bytes.

    `state` is one of
        stub      now calls a stub that saves r2, and restores it
        thunk     now branches to a thunk that saves, calls, restores and branches back
        saved     now restores what the function itself had saved on every path
        paca      now loads r2 from the PACA
        done      saved and restored before already
        restored  restored before already, its save not shown (not right, but no error)
        trampoline its trampoline keeps r2 on the livepatch stack
        elsewhere its trampoline is another object's, and is to keep r2 there
        linker    the trampoline is marked (st_other bits 5-7 = 1), or is to be where it is
                  defined: the linker saves and restores
        loader    undefined trampoline in a module: the module loader saves and restores
        notoc     a call that needs no r2 (REL24_NOTOC, REL24_P9NOTOC)
        left      unchanged, and r2 is wrong after it
        wrong     changed, and r2 is wrong after it (an error)
    """

    section: int
    section_name: str
    offset: int
    """Of the `bl`, or of the `b` to a thunk."""
    function: str
    function_offset: int
    trampoline: str
    trampoline_section: int
    """Section index; 0 where the object does not define the trampoline."""
    trampoline_offset: int
    """Of its global entry; 0 where the object does not define it."""
    trampoline_other: int
    """Its st_other, or one that says where the kernel patches it all the same."""
    state: str
    right: bool
    """r2 is right after the call in the second object."""
    was_right: bool
    """It was in the first."""
    why: str
    resume: int
    """Where control goes on after the call sequence."""
    saved_before: bool
    """No stub saves r2 for this call: the function has to have done it."""
    loader: bool
    paca_toc: int | None = None
    """Where in the PACA r2 is loaded from after the call, in bytes."""
    hoisted: tuple[int, ...] = ()
    """Section offsets of the nops before it that became the save for it."""
    way: tuple[int, int] | None = None
    """Where its trampoline's way to another TOC begins, and the branch that ends it: offsets in
    the trampoline's section, for one that keeps r2."""
    code: tuple[int, int] | None = None
    """Offset and size of the code that it leads to, in the same section."""
    runs: bool = True
    """It can be run. One that needs no r2 fails, and rightly so; one of an STT_GNU_IFUNC wants a
    program that starts as those of a C library do."""
    sibling: bool = False
    """The call is a `b` to a trampoline that keeps r2: control comes back to the caller's
    caller."""


@dataclass(frozen=True, slots=True)
class Proof:
    """All call sites in the order of section and offset, and a sentence for each error."""

    sites: tuple[SiteProof, ...]
    errors: tuple[str, ...]
    paca_toc: int | None = None
    """The offset of all loads of r2 from the PACA; None where there are none."""
    livepatch: tuple[int, int] | None = None
    """Where the thread_info is in the PACA and the livepatch stack pointer in that, in bytes, by
    the code of trampolines that keep r2; None where there are none."""
    intermediate: bool = False
    """The second object also holds what a link with LTO would compile in place of its code."""
