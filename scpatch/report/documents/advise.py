"""The document of `advise`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from scpatch.advisor import RULE
from scpatch.report.documents import (
    SCHEMA,
    Applied,
    Document,
    Entry,
    FailedFile,
    Natural,
    about,
    entry,
    failures,
    natural,
)

if TYPE_CHECKING:
    from scpatch.report.advise import AdviseReport

Ratio = Annotated[float, Meta(ge=0)]


class StrategyOutlook(Entry):
    """What one strategy would do to the file."""

    strategy: str
    possible: bool
    code: Annotated[str, about("The diagnostic, if it is not possible.")]
    reason: str
    image_only: Annotated[bool, about("It does not serve kernel modules.")]
    sites: Annotated[int, natural("Calls that it makes right.")]
    left: Annotated[int, natural("Calls that stay wrong.")]
    codes: Annotated[list[str], about("The diagnostics of the refused ones.")]
    free: Annotated[int, natural("Those of `sites` without any extra instruction.")]
    stubs: Natural
    trampolines: Annotated[int, natural("How many it changes.")]
    code_bytes: Natural
    same: Annotated[Ratio, about("Extra instructions per call, if the target has the same TOC.")]
    other: Annotated[Ratio, about("The same for another TOC.")]


class AdvisedFile(Entry):
    file: str
    kind: Literal["object", "kernel module", "linked image", "archive"]
    sites: Natural
    applied: Applied
    recommended: Annotated[str, about("The strategy to take; empty if there is none.")]
    strategies: list[StrategyOutlook]


class AdviseDocument(Document):
    command: Literal["advise"]
    rule: Annotated[str, about("How `recommended` is chosen.")]
    files: list[AdvisedFile]
    failed: list[FailedFile]


def document(report: AdviseReport) -> AdviseDocument:
    advised = []
    for advice in report.files:
        outlooks = [
            entry(StrategyOutlook, o, same=round(o.same, 4), other=round(o.other, 4))
            for o in advice.outlooks
        ]
        advised.append(entry(AdvisedFile, advice, file=str(advice.path), strategies=outlooks))
    return AdviseDocument(SCHEMA, "advise", RULE, advised, failures(report.failed))
