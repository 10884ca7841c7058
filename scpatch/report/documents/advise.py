"""The document of `advise`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from scpatch.advisor import RULE
from scpatch.report.documents import (
    SCHEMA,
    Document,
    Entry,
    Natural,
    Strings,
    about,
    entry,
    natural,
    plain,
)

if TYPE_CHECKING:
    from scpatch.advisor import Advice, Outlook


class OutlookEntry(Entry):
    """What one strategy would do to the file."""

    strategy: str
    possible: bool
    code: Annotated[str, about("The diagnostic, if it is not possible.")]
    reason: str
    image_only: Annotated[bool, about("It does not serve kernel modules.")]
    sites: Annotated[int, natural("Calls that it makes right.")]
    left: Annotated[int, natural("Calls that stay wrong.")]
    codes: Annotated[Strings, about("The diagnostics of the refused ones.")]
    free: Annotated[int, natural("Those of `sites` without any extra instruction.")]
    stubs: Natural
    trampolines: Annotated[int, natural("How many it changes.")]
    code_bytes: Natural
    same: Annotated[
        float,
        Meta(
            ge=0,
            description="Extra instructions per call, on the average of `sites`, if the target "
            "has the caller's TOC.",
        ),
    ]
    other: Annotated[float, Meta(ge=0, description="The same for another TOC.")]


class AdvisedFile(Entry):
    file: str
    kind: Literal["object", "kernel module", "linked image", "archive"]
    sites: Natural
    applied: Annotated[Strings, about("The strategies that it says it was rewritten with.")]
    recommended: Annotated[
        str, about("The strategy to take; empty if there is nothing to do, or none is possible.")
    ]
    strategies: list[OutlookEntry]


class AdviseDocument(Document):
    command: Literal["advise"]
    rule: Annotated[str, about("How `recommended` is found.")]
    files: list[AdvisedFile]


def advise_document(files: Sequence[Advice]) -> AdviseDocument:
    advised = [
        entry(
            AdvisedFile,
            advice,
            file=plain(str(advice.path)),
            strategies=list(map(_outlook, advice.outlooks)),
        )
        for advice in files
    ]
    return AdviseDocument(SCHEMA, "advise", RULE, advised)


def _outlook(outlook: Outlook) -> OutlookEntry:
    same, other = round(outlook.same, 4), round(outlook.other, 4)
    return entry(OutlookEntry, outlook, same=same, other=other)
