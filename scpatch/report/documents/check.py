"""The document of `check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import field

from scpatch.errors import ScpatchError
from scpatch.report.documents import (
    SCHEMA,
    Applied,
    Document,
    Entry,
    FailedFile,
    FileName,
    about,
    entry,
    failures,
    listed,
    worst_of,
)
from scpatch.report.documents.calls import CallEntry
from scpatch.verifier.check import CheckedCall, CheckVerdict, Kind
from scpatch.verifier.verdict import Result


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
    second_opinion: Annotated[
        str, about("The library that read the files too, and its version; empty if none did.")
    ]
    disassembler: Annotated[
        str, about("What decoded the instructions, and its version; empty if nothing did.")
    ]
    errors: Annotated[list[str], about("Why the file as a whole cannot be judged.")]
    sites: list[CheckedSite]


class CheckDocument(Document):
    command: Literal["check"]
    proven: bool
    verdict: Annotated[Result, about("The worst of the files; what failed is not shown.")]
    files: list[CheckedObject]
    failed: list[FailedFile]


def check_document(
    verdicts: Sequence[CheckVerdict], failed: Sequence[ScpatchError]
) -> CheckDocument:
    result = worst_of((verdict.result for verdict in verdicts), failed)
    proven = result is Result.PROVEN
    files = list(map(_checked, verdicts))
    return CheckDocument(SCHEMA, "check", proven, result, files, failures(failed))


def _checked(verdict: CheckVerdict) -> CheckedObject:
    return entry(
        CheckedObject,
        verdict,
        second_opinion=verdict.checkers.second_opinion,
        disassembler=verdict.checkers.disassembler,
        sites=list(map(_site, verdict.calls)),
    )


def _site(call: CheckedCall) -> CheckedSite:
    return entry(CheckedSite, call)
