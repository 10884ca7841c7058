"""Call sites, as the documents of several commands have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from scpatch.report.documents import (
    Entry,
    Natural,
    SectionName,
    Word,
    about,
    entry,
    listed,
    natural,
)

if TYPE_CHECKING:
    from scpatch.sites.model import Site

State = Annotated[str, listed("state")]
States = Annotated[
    dict[State, Annotated[int, Meta(ge=1)]],
    about("Number of sites by state; states that do not occur are left out."),
]


class CallEntry(Entry):
    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    offset: Annotated[int, natural("Section offset of the branch, in bytes.")]
    function: Annotated[str, about("The function that it is in; empty if no symbol covers it.")]
    function_offset: Annotated[int, natural("Offset of the branch from the function's start.")]
    trampoline: Annotated[str, about("Name of the trampoline, also if a stub is called.")]


class SiteEntry(CallEntry):
    state: State
    code: Annotated[str, Meta(pattern="^(SCP2[0-9]{2})?$")]
    detail: Annotated[str, about("Why it is refused, or what makes it right.")]
    line: Annotated[str, about("FILE:LINE if DWARF has it, else empty.")]
    saves: Annotated[list[Natural], about("Section offsets of nops that are to save r2 for it.")]
    word: Annotated[Word, about("The branch instruction.")]
    after: Annotated[Word | None, about("The word after it; null at the end of the section.")]


def site_entries(sites: Iterable[Site]) -> list[SiteEntry]:
    return [
        entry(
            SiteEntry,
            site,
            word=f"{site.word:#010x}",
            after=None if site.after is None else f"{site.after:#010x}",
        )
        for site in sites
    ]
