"""The document of `scan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import field

from scpatch.report.documents import (
    SCHEMA,
    Applied,
    Document,
    Entry,
    FailedFile,
    FileName,
    Natural,
    about,
    entry,
    failures,
    natural,
)
from scpatch.report.documents.calls import SiteEntry, States, site_entries
from scpatch.report.words import by_state

if TYPE_CHECKING:
    from scpatch.report.scan import ScanReport


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


def document(report: ScanReport) -> ScanDocument:
    files = [
        entry(
            ScannedObject,
            scan,
            file=name,
            sites=site_entries(report.shown.calls(scan.sites)),
            states=by_state(scan.sites),
            trampolines=[
                entry(CalledTrampoline, trampoline, sites=calls[trampoline.name])
                for trampoline in scan.trampolines
            ],
        )
        for name, scan in report.objects
        for calls in (scan.calls,)
    ]
    return ScanDocument(SCHEMA, "scan", files, failures(report.failed))
