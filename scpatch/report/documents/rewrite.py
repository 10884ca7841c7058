"""The document of `rewrite`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import field

from scpatch.report.documents import (
    SCHEMA,
    Document,
    Entry,
    FailedFile,
    FileName,
    Natural,
    SectionName,
    about,
    diff,
    entry,
    failures,
    natural,
)
from scpatch.report.documents.calls import SiteEntry, States, site_entries
from scpatch.report.words import by_state, summary_line

if TYPE_CHECKING:
    from scpatch.report.filters import Filter
    from scpatch.report.rewrite import RewriteReport
    from scpatch.rewriter import ObjectPlan


class ChangedTrampoline(Entry):
    name: str
    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    offset: Annotated[int, natural("Section offset of its global entry.")]
    what: Annotated[str, about("What is done to it.")]


class AddedStub(Entry):
    name: str
    kind: Literal["stub", "thunk"]
    trampoline: Annotated[str, about("Empty for code that serves all trampolines of its section.")]
    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    offset: Annotated[int, natural("Section offset of its first instruction.")]
    size: Natural
    sites: Annotated[int, natural("Sites that go through it, or through a trampoline that does.")]


class ListedCall(Entry):
    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    offset: Annotated[int, natural("Section offset of the `bl`.")]
    key: Annotated[str, about("The symbol of the static call's key, or of its trampoline.")]


class PlannedObject(Entry):
    name: FileName
    strategy: str
    trampolines: Annotated[list[ChangedTrampoline], about("The trampolines that are changed.")]
    states: States
    code_bytes: Annotated[int, natural("Bytes by which code sections grow, padding included.")]
    stubs: list[AddedStub]
    listed: Annotated[list[ListedCall], about("Its table of call sites, `.static_call_sites`.")]
    sites: list[SiteEntry]


class RewrittenFile(Entry):
    file: str
    outputs: Annotated[list[str], about("What is, or would be, written; empty for no change.")]
    summary: Annotated[str, about("The summary line.")]
    objects: list[PlannedObject]


class RewriteDocument(Document):
    command: Literal["rewrite"]
    written: Annotated[bool, about("Whether the outputs were written.")]
    files: list[RewrittenFile]
    failed: list[FailedFile]
    differences: Annotated[
        list[diff.ComparedObject], about("What changes in the code, with --diff.")
    ]


def document(report: RewriteReport) -> RewriteDocument:
    files = [
        entry(
            RewrittenFile,
            file=str(plan.path),
            outputs=[str(output.target) for output in plan.outputs],
            summary=summary_line(plan, written=report.written),
            objects=[_planned(planned, report.shown) for planned in plan.objects],
        )
        for plan in report.plans
    ]
    differences = diff.document(report.differences).files if report.differences else []
    failed = failures(report.failed)
    return RewriteDocument(SCHEMA, "rewrite", report.written, files, failed, differences)


def _planned(planned: ObjectPlan, shown: Filter) -> PlannedObject:
    sites = planned.plan.sites
    return entry(
        PlannedObject,
        planned.plan,
        name=planned.name,
        states=by_state(sites),
        sites=site_entries(shown.calls(sites)),
    )
