"""The document of `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import field

from scpatch.report.documents import (
    SCHEMA,
    Document,
    Entry,
    Natural,
    Strings,
    about,
    entry,
    listed,
    natural,
    plain,
)
from scpatch.report.documents.sites import SectionName
from scpatch.verifier.verdict import Result, judge_site, worst

if TYPE_CHECKING:
    from scpatch.verifier.verdict import Verdict


class OutcomeEntry(Entry):
    """How a site ran."""

    passed: bool
    reached: Annotated[bool, about("The trampoline's target was reached.")]
    reasons: Strings


class ProofEntry(Entry):
    """A call site, and why r2 is right after it."""

    section_name: SectionName = field(name="section")
    section: Natural = field(name="section_index")
    offset: Annotated[int, natural("Section offset of the branch, in bytes.")]
    function: Annotated[str, about("The function around it; empty if no symbol covers it.")]
    function_offset: Annotated[int, natural("Offset of the branch from the function's start.")]
    trampoline: Annotated[str, about("Name of the trampoline, also if a stub is called.")]
    state: Annotated[str, listed("reason")]
    right: Annotated[bool, about("r2 is right after the call in the second object.")]
    was_right: Annotated[bool, about("It was in the first.")]
    good: Annotated[bool, about("The site is shown to be right, and no run says otherwise.")]
    why: str
    run_before: Annotated[OutcomeEntry | None, about("null if it was not executed.")]
    run_after: OutcomeEntry | None


class VerifiedObject(Entry):
    label: str = field(name="file")
    proven: bool
    verdict: Annotated[Result, about("The worst of its sites.")]
    executed: bool
    paca_toc: Annotated[
        int | None,
        about("Where in the PACA r2 is loaded from after calls, in bytes; null if it is not."),
    ]
    errors: Strings
    sites: list[ProofEntry]


class VerifyDocument(Document):
    command: Literal["verify"]
    proven: bool
    verdict: Annotated[Result, about("The worst of the files.")]
    files: list[VerifiedObject]


def verify_document(verdicts: Sequence[Verdict]) -> VerifyDocument:
    result = worst(verdict.result for verdict in verdicts)
    files = list(map(_verified, verdicts))
    return VerifyDocument(SCHEMA, "verify", result is Result.PROVEN, result, files)


def _verified(verdict: Verdict) -> VerifiedObject:
    return entry(
        VerifiedObject,
        verdict,
        verdict=verdict.result,
        executed=verdict.runs is not None,
        paca_toc=verdict.proof.paca_toc,
        errors=plain(verdict.proof.errors),
        sites=[
            entry(
                ProofEntry,
                site,
                good=judge_site(site, runs) is Result.PROVEN,
                run_before=entry(OutcomeEntry, runs.before) if runs else None,
                run_after=entry(OutcomeEntry, runs.after) if runs else None,
            )
            for site, runs in verdict.sites
        ],
    )
