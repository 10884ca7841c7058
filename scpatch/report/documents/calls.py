"""The documents of `scan` and `rewrite`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, field

from scpatch.report.documents import (
    SCHEMA,
    Applied,
    Document,
    Entry,
    FailedFile,
    FileName,
    Natural,
    SectionName,
    Word,
    about,
    entry,
    failures,
    listed,
    natural,
    worst_of,
)
from scpatch.report.documents.diff import ComparedObject
from scpatch.report.words import by_state, summary_line
from scpatch.verifier.verdict import Result, Verdict, judge_site

if TYPE_CHECKING:
    from scpatch.errors import ScpatchError
    from scpatch.report.filters import Filter
    from scpatch.rewriter import FilePlan, ObjectPlan
    from scpatch.sites.model import Scan, Site

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


def _sites(sites: Iterable[Site]) -> list[SiteEntry]:
    return [
        entry(
            SiteEntry,
            site,
            word=f"{site.word:#010x}",
            after=None if site.after is None else f"{site.after:#010x}",
        )
        for site in sites
    ]


class CalledTrampoline(Entry):
    name: str
    symbol: Annotated[int, natural("Index in .symtab.")]
    section: Annotated[int, natural("Section index; 0 if the object does not define it.")]
    value: Annotated[int, natural("Section offset of its global entry.")] = field(name="offset")
    size: Natural
    st_other: Natural
    local: Annotated[bool, about("STB_LOCAL.")]
    sites: Annotated[int, natural("Number of call sites.")]


class ScannedObject(Entry):
    file: FileName
    module: Annotated[bool, about("A linked kernel module (.ko).")]
    image: Annotated[bool, about("A linked image, such as vmlinux.")]
    strategies: Applied
    trampolines: list[CalledTrampoline]
    sites: list[SiteEntry]
    states: States


class ScanDocument(Document):
    command: Literal["scan"]
    files: list[ScannedObject]
    failed: list[FailedFile]


def scan_document(
    objects: Iterable[tuple[str, Scan]], shown: Filter, failed: Iterable[ScpatchError]
) -> ScanDocument:
    files = [
        entry(
            ScannedObject,
            scan,
            file=name,
            sites=_sites(shown.calls(scan.sites)),
            states=by_state(scan.sites),
            trampolines=[
                entry(CalledTrampoline, trampoline, sites=calls[trampoline.name])
                for trampoline in scan.trampolines
            ],
        )
        for name, scan in objects
        for calls in (scan.calls,)
    ]
    return ScanDocument(SCHEMA, "scan", files, failures(failed))


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
    differences: Annotated[list[ComparedObject], about("What changes in the code, with --diff.")]


def rewrite_document(
    plans: Iterable[FilePlan], shown: Filter, failed: Iterable[ScpatchError], *, written: bool
) -> RewriteDocument:
    files = [
        entry(
            RewrittenFile,
            file=str(plan.path),
            outputs=[str(output.target) for output in plan.outputs],
            summary=summary_line(plan, written=written),
            objects=[_planned(planned, shown) for planned in plan.objects],
        )
        for plan in plans
    ]
    return RewriteDocument(SCHEMA, "rewrite", written, files, failures(failed), [])


def _planned(planned: ObjectPlan, shown: Filter) -> PlannedObject:
    sites = planned.plan.sites
    return entry(
        PlannedObject,
        planned.plan,
        name=planned.name,
        states=by_state(sites),
        sites=_sites(shown.calls(sites)),
    )


class RunEntry(Entry):
    passed: bool
    reached: Annotated[bool, about("The trampoline's target was reached.")]
    reasons: list[str]


class VerifiedCall(CallEntry):
    state: Annotated[str, listed("reason")]
    right: Annotated[bool, about("r2 is right after the call in the second object.")]
    was_right: Annotated[bool, about("It was in the first.")]
    good: Annotated[bool, about("The site is shown to be right, and no run says otherwise.")]
    why: str
    run_before: Annotated[RunEntry | None, about("null if it was not executed.")]
    run_after: RunEntry | None


class VerifiedObject(Entry):
    label: FileName = field(name="file")
    proven: bool
    result: Annotated[Result, about("The worst of its sites.")] = field(name="verdict")
    executed: bool
    paca_toc: Annotated[
        int | None, about("Offset in the PACA that calls load r2 from; null if none does.")
    ]
    second_opinion: Annotated[
        str, about("The library that read the files too, and its version; empty if none did.")
    ]
    disassembler: Annotated[
        str, about("What decoded the instructions, and its version; empty if nothing did.")
    ]
    linker: Annotated[str | None, about("GNU ld, which made the programs; null if not executed.")]
    emulator: Annotated[
        str | None,
        about("QEMU; null if not executed, or executed directly by this machine."),
    ]
    errors: list[str]
    sites: list[VerifiedCall]


class VerifyDocument(Document):
    command: Literal["verify"]
    proven: bool
    verdict: Annotated[Result, about("The worst of the files; what failed is not shown.")]
    files: list[VerifiedObject]
    failed: list[FailedFile]


def verify_document(
    verdicts: Sequence[Verdict], shown: Filter, failed: Sequence[ScpatchError]
) -> VerifyDocument:
    files = [_verified(verdict, shown) for verdict in verdicts]
    result = worst_of((verdict.result for verdict in verdicts), failed)
    proven = result is Result.PROVEN
    return VerifyDocument(SCHEMA, "verify", proven, result, files, failures(failed))


def _verified(verdict: Verdict, shown: Filter) -> VerifiedObject:
    sites = [
        entry(
            VerifiedCall,
            site,
            good=judge_site(site, runs) is Result.PROVEN,
            run_before=runs and runs.before,
            run_after=runs and runs.after,
        )
        for site, runs in verdict.sites
        if shown.calls([site])
    ]
    return entry(
        VerifiedObject,
        verdict,
        executed=verdict.runs is not None,
        paca_toc=verdict.proof.paca_toc,
        second_opinion=verdict.proof.checkers.second_opinion,
        disassembler=verdict.proof.checkers.disassembler,
        linker=verdict.tools and verdict.tools.ld,
        emulator=verdict.tools and verdict.tools.emulator,
        errors=verdict.proof.errors,
        sites=sites,
    )
