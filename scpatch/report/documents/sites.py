"""The documents of `scan` and `rewrite`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, field

from scpatch.report.documents import (
    SCHEMA,
    Document,
    Entry,
    Natural,
    Strings,
    Word,
    about,
    entries,
    entry,
    listed,
    natural,
    plain,
    word,
)
from scpatch.report.summary import summary_line
from scpatch.report.words import by_state

if TYPE_CHECKING:
    from scpatch.rewriter import FilePlan, ObjectPlan
    from scpatch.sites.model import Scan, Site

State = Annotated[str, listed("state")]
States = Annotated[
    dict[State, Annotated[int, Meta(ge=1)]],
    about("Number of sites by state; states that do not occur are left out."),
]
SectionName = Annotated[str, about("Section name.")]


class SiteEntry(Entry):
    """A call site."""

    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    offset: Annotated[int, natural("Section offset of the branch, in bytes.")]
    function: Annotated[str, about("The function around it; empty if no symbol covers it.")]
    function_offset: Annotated[int, natural("Offset of the branch from the function's start.")]
    trampoline: Annotated[str, about("Name of the trampoline, also if a stub is called.")]
    state: State
    code: Annotated[
        str,
        Meta(
            pattern="^(SCP2[0-9]{2})?$",
            description="The diagnostic of a refused site, or of one that gets a thunk.",
        ),
    ]
    detail: Annotated[str, about("Why it is refused, or what makes it right.")]
    line: Annotated[str, about("FILE:LINE if DWARF has it, else empty.")]
    saves: Annotated[
        list[Natural], about("Section offsets of nops before it that are to save r2 for it.")
    ]
    word: Annotated[Word, about("The branch instruction.")]
    after: Annotated[Word | None, about("The word after it; null at the end of the section.")]


def site_entry(site: Site) -> SiteEntry:
    after = None if site.after is None else word(site.after)
    return entry(SiteEntry, site, word=word(site.word), after=after)


class TrampolineEntry(Entry):
    name: str
    symbol: Annotated[int, natural("Index in .symtab.")]
    section: Annotated[int, natural("Section index; 0 if the object does not define it.")]
    value: Annotated[int, natural("Section offset of the global entry point.")] = field(
        name="offset"
    )
    size: Natural
    st_other: Natural
    local: Annotated[bool, about("STB_LOCAL.")]
    sites: Annotated[int, natural("Number of call sites.")]


class ScannedObject(Entry):
    file: Annotated[str, about("The file; a member is ARCHIVE(MEMBER).")]
    module: Annotated[bool, about("A linked kernel module (.ko).")]
    image: Annotated[bool, about("A linked image, such as vmlinux.")]
    strategies: Annotated[Strings, about("The strategies that it says it was rewritten with.")]
    trampolines: list[TrampolineEntry]
    sites: list[SiteEntry]
    states: States


class ScanDocument(Document):
    command: Literal["scan"]
    files: list[ScannedObject]


def scan_document(objects: Iterable[tuple[str, Scan]]) -> ScanDocument:
    return ScanDocument(SCHEMA, "scan", [_scanned(name, scan) for name, scan in objects])


def _scanned(name: str, scan: Scan) -> ScannedObject:
    calls = scan.calls
    return entry(
        ScannedObject,
        scan,
        file=plain(name),
        trampolines=[
            entry(TrampolineEntry, trampoline, sites=calls[trampoline.name])
            for trampoline in scan.trampolines
        ],
        sites=list(map(site_entry, scan.sites)),
        states=by_state(scan.sites),
    )


class ChangedTrampoline(Entry):
    name: str
    section_name: SectionName = field(name="section")
    section: Annotated[int, Meta(ge=1)] = field(name="section_index")
    offset: Annotated[int, natural("Section offset of its global entry point.")]
    what: Annotated[str, about("What is done to it.")]


class AddedStub(Entry):
    name: str
    kind: Literal["stub", "thunk"]
    trampoline: Annotated[str, about("Empty for code that serves all trampolines of its section.")]
    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    offset: Annotated[int, natural("Section offset of its first instruction.")]
    size: Natural
    sites: Annotated[
        int,
        natural("Sites of this object that go through it, or through a trampoline that does."),
    ]


class ListedEntry(Entry):
    """An entry of the table of call sites, `.static_call_sites`."""

    section_name: SectionName = field(name="section")
    section: Annotated[int, Meta(ge=1)] = field(name="section_index")
    offset: Annotated[int, natural("Section offset of the `bl`.")]
    key: Annotated[str, about("The symbol of the static call's key, or of its trampoline.")]


class PlannedObject(Entry):
    """One object: a file or a member of an archive."""

    name: str
    strategy: str
    trampolines: Annotated[list[ChangedTrampoline], about("The trampolines that are changed.")]
    states: States
    code_bytes: Annotated[int, natural("Bytes by which code sections grow, padding included.")]
    stubs: list[AddedStub]
    listed: Annotated[list[ListedEntry], about("The table of call sites that it gets, or has.")]
    sites: list[SiteEntry]


class RewrittenFile(Entry):
    file: str
    outputs: Annotated[
        Strings, about("The files that are, or would be, written; empty if nothing changes.")
    ]
    summary: Annotated[str, about("The summary line.")]
    objects: list[PlannedObject]


class RewriteDocument(Document):
    command: Literal["rewrite"]
    written: Annotated[bool, about("Whether the outputs were written.")]
    files: list[RewrittenFile]


def rewrite_document(plans: Sequence[FilePlan], *, written: bool) -> RewriteDocument:
    files = [
        entry(
            RewrittenFile,
            file=plain(str(plan.path)),
            outputs=[plain(str(output.target)) for output in plan.outputs],
            summary=summary_line(plan, written=written),
            objects=list(map(_planned, plan.objects)),
        )
        for plan in plans
    ]
    return RewriteDocument(SCHEMA, "rewrite", written, files)


def _planned(planned: ObjectPlan) -> PlannedObject:
    plan = planned.plan
    return entry(
        PlannedObject,
        plan,
        name=plain(planned.name),
        states=by_state(plan.sites),
        sites=list(map(site_entry, plan.sites)),
        trampolines=entries(ChangedTrampoline, plan.trampolines),
        stubs=entries(AddedStub, plan.stubs),
        listed=entries(ListedEntry, plan.listed),
    )
