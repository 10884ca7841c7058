"""The document of `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import field

from scpatch.report.documents import SCHEMA, Document, Entry, FileName, about, entry, listed
from scpatch.report.documents.calls import CallEntry
from scpatch.verifier.verdict import Result, Verdict, judge_site, worst


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
    errors: list[str]
    sites: list[VerifiedCall]


class VerifyDocument(Document):
    command: Literal["verify"]
    proven: bool
    verdict: Annotated[Result, about("The worst of the files.")]
    files: list[VerifiedObject]


def verify_document(verdicts: Sequence[Verdict]) -> VerifyDocument:
    files = list(map(_verified, verdicts))
    result = worst(verdict.result for verdict in verdicts)
    return VerifyDocument(SCHEMA, "verify", result is Result.PROVEN, result, files)


def _verified(verdict: Verdict) -> VerifiedObject:
    sites = [
        entry(
            VerifiedCall,
            site,
            good=judge_site(site, runs) is Result.PROVEN,
            run_before=runs and runs.before,
            run_after=runs and runs.after,
        )
        for site, runs in verdict.sites
    ]
    return entry(
        VerifiedObject,
        verdict,
        executed=verdict.runs is not None,
        paca_toc=verdict.proof.paca_toc,
        errors=verdict.proof.errors,
        sites=sites,
    )
