"""The document of `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import field

from scpatch.report.documents import (
    SCHEMA,
    Applied,
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
from scpatch.report.filters import Filter
from scpatch.verifier.check import CheckVerdict, Kind
from scpatch.verifier.verdict import Result

if TYPE_CHECKING:
    from scpatch.report.check import CheckReport


class CheckedSite(CallEntry):
    reason: Annotated[str, listed("reason")]
    result: Annotated[Result, about("Whether r2 is shown to be right after the call.")] = field(
        name="verdict"
    )
    why: str


class CheckedObject(Entry):
    label: FileName = field(name="file")
    kind: Kind
    strategies: Applied
    proven: bool
    result: Annotated[Result, about("The worst of its calls.")] = field(name="verdict")
    second_opinion: SecondOpinion
    disassembler: Disassembler
    errors: Annotated[list[str], about("Why the file as a whole cannot be judged.")]
    sites: list[CheckedSite]


class CheckDocument(Document):
    command: Literal["check"]
    proven: bool
    verdict: WorstResult
    files: list[CheckedObject]
    failed: list[FailedFile]


def document(report: CheckReport) -> CheckDocument:
    result = worst_of((verdict.result for verdict in report.verdicts), report.failed)
    proven = result is Result.PROVEN
    files = [_checked(verdict, report.shown) for verdict in report.verdicts]
    return CheckDocument(SCHEMA, "check", proven, result, files, failures(report.failed))


def _checked(verdict: CheckVerdict, shown: Filter) -> CheckedObject:
    return entry(
        CheckedObject,
        verdict,
        second_opinion=verdict.checkers.second_opinion,
        disassembler=verdict.checkers.disassembler,
        sites=[entry(CheckedSite, call) for call in shown.calls(verdict.calls)],
    )
