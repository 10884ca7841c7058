"""The document of `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import field

from scpatch.report.documents import (
    SCHEMA,
    Disassembler,
    Document,
    Entry,
    FailedFile,
    FileName,
    SecondOpinion,
    WorstResult,
    about,
    entry,
    failures,
    listed,
    worst_of,
)
from scpatch.report.documents.calls import CallEntry
from scpatch.verifier.verdict import Result, Verdict, judge_site

if TYPE_CHECKING:
    from scpatch.report.filters import Filter
    from scpatch.report.verify import VerifyReport


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
    second_opinion: SecondOpinion
    disassembler: Disassembler
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
    verdict: WorstResult
    files: list[VerifiedObject]
    failed: list[FailedFile]


def document(report: VerifyReport) -> VerifyDocument:
    files = [_verified(verdict, report.shown) for verdict in report.verdicts]
    result = worst_of((verdict.result for verdict in report.verdicts), report.failed)
    proven = result is Result.PROVEN
    return VerifyDocument(SCHEMA, "verify", proven, result, files, failures(report.failed))


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
