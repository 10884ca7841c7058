"""What a proof says: of each call site why r2 is right, and what speaks against the whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self


class Reason(StrEnum):
    """Why r2 is right after a call, or that it is not: one word, `text` for a column, and what a
    legend says of it.

    The members of `Common` belong to no strategy. Each file of `reasons` has an enum of its own.
    """

    text: str
    meaning: str
    by_change: bool
    """What a change makes of a call: one that was so before is `done`."""

    def __new__(cls, word: str, text: str, meaning: str, by_change: bool = False) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.text, member.meaning, member.by_change = text, meaning, by_change
        return member

    @property
    def right(self) -> bool:
        """Whether r2 is right after the call."""
        return self not in (Common.RESTORED, Common.OPEN, Common.LEFT, Common.WRONG)


class Common(Reason):
    """The reasons that belong to no strategy."""

    SAVED = (
        *("saved", "saved by function"),
        "restores what the function itself has saved on every path",
        True,
    )
    DONE = "done", "right before", "was saved and restored before already"
    RESTORED = (
        *("restored", "save not shown"),
        "was restored before already, but no save was found: neither right nor an error",
    )
    OPEN = (
        *("open", "decided elsewhere"),
        "is right or wrong by another file, or by what is not known of the kernel (`check` only)",
    )
    LINKER = (
        *("linker", "saved by linker"),
        "the linker saves and restores r2: the trampoline is marked (st_other bits 5-7 = 1), or is "
        "to be where it is defined",
    )
    LOADER = (
        *("loader", "saved by loader"),
        "the module loader saves and restores r2, as the module does not define the trampoline",
    )
    NOTOC = "notoc", "r2 not needed", "needs no r2 (REL24_NOTOC, REL24_P9NOTOC)"
    LEFT = "left", "wrong, as before", "is unchanged, and r2 is wrong after it"
    WRONG = "wrong", "wrong now", "was changed, and r2 is wrong after it: an error"


@dataclass(frozen=True, slots=True)
class CallSite:
    """One call site, and what there is to know to run it. Offsets are section offsets in bytes."""

    section: int
    section_name: str
    offset: int
    """Of the `bl`, or of the `b` to a thunk."""
    trampoline: str
    """Name of the trampoline that the call leads to, never of the stub."""
    trampoline_section: int
    """Section index; 0 if the object does not define the trampoline."""
    trampoline_offset: int
    """Of its global entry; 0 if the object does not define it."""
    trampoline_other: int
    """Its st_other, or one that says where the kernel patches it all the same."""
    resume: int
    """Where control goes on after the call sequence."""
    saved_before: bool
    """No stub saves r2 for this call: the function must have done it."""
    loader: bool
    """In a kernel module, of an undefined trampoline: the module loader makes the stub."""
    marked: bool = False
    """If the object does not define the trampoline, its definition has st_other bits 5-7 = 1."""
    ctr_path: tuple[int, int] | None = None
    """For a trampoline that preserves r2, where its path to another TOC begins, and the branch that
    ends it, which `mtctr r12` precedes: offsets in the trampoline's section. The site is run along
    that path."""
    code: tuple[int, int] | None = None
    """Offset and size of the code that the branch leads to, in the same section. In a run an
    interrupt comes before each of its instructions, and the target makes a static call itself."""
    sibling: bool = False
    """The call is a `b` to a trampoline that preserves r2: control returns to the caller's
    caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteProof(CallSite):
    """One call site and why r2 is right after it."""

    function: str
    function_offset: int
    state: Reason
    right: bool
    """r2 is right after the call in the second object."""
    was_right: bool
    """It was in the first."""
    why: str
    paca_toc: int | None = None
    """Where in the PACA r2 is loaded from after the call, in bytes."""
    hoisted: tuple[int, ...] = ()
    """Section offsets of the nops before it that became the save for it."""
    runs: bool = True
    """Whether the call can be run. One that needs no r2 fails, and rightly so; one of an
    STT_GNU_IFUNC needs a program that starts as those of a C library do; of a trampoline in another
    object nothing is known."""


class Checkers(NamedTuple):
    """What took part in a proof beside its own code, each with its version."""

    second_opinion: str = ""
    """The library that read the files too; empty if none did."""
    disassembler: str = ""
    """What decoded the instructions; empty if there was no proof."""


@dataclass(frozen=True, slots=True)
class Proof:
    """All call sites in the order of section and offset, and a sentence for each error."""

    sites: tuple[SiteProof, ...]
    errors: tuple[str, ...]
    paca_toc: int | None = None
    """The offset of all loads of r2 from the PACA; None if there are none."""
    livepatch: tuple[int, int] | None = None
    """Where the thread_info is in the PACA and the livepatch stack pointer in that, in bytes, by
    the code of trampolines that preserve r2; None if there are none."""
    checkers: Checkers = Checkers()  # noqa: RUF009
    intermediate: bool = False
    """The second object also holds what a link with LTO would compile in place of its code."""
    unreadable: bool = False
    """One of the files cannot be judged; the error says why."""
