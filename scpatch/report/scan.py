"""The report of `scan`: the trampolines and call sites of objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from scpatch.errors import ScpatchError
from scpatch.report.blocks import (
    GAP,
    Block,
    Cell,
    Finding,
    Level,
    Line,
    Paragraph,
    Record,
    Style,
    Table,
    legend,
    note_shown,
    number,
)
from scpatch.report.filters import EVERYTHING, Filter
from scpatch.report.places import code_place, place_cells, place_fields
from scpatch.report.words import by_state, call_sites, count, enumerate_states, unread
from scpatch.sites.actions import Common
from scpatch.sites.model import Scan, Site, Trampoline


class ScanReport(NamedTuple):
    objects: Sequence[tuple[str, Scan]]
    """The name of each object, and what it holds."""
    brief: bool = False
    """Whether a person gets one line for each object with call sites, and their total."""
    shown: Filter = EVERYTHING
    details: bool = False
    """Whether all about each object with call sites follows those lines."""
    failed: Sequence[ScpatchError] = ()

    @property
    def command(self) -> str:
        return "scan"

    def blocks(self) -> Iterator[Block]:
        if self.brief:
            yield from _overview(self.objects, self.shown, self.failed)
            if not self.details:
                return
        for index, (name, scan) in enumerate(self.objects):
            if self.brief and not scan.sites:
                continue
            if index:
                yield GAP
            yield from _object(name, scan, self.shown)
        yield from state_legend(
            site for _, scan in self.objects for site in self.shown.calls(scan.sites)
        )

    def records(self) -> Iterator[Record]:
        for name, scan in self.objects:
            for strategy in scan.strategies:
                yield "strategy", name, strategy
            calls = scan.calls
            for trampoline in scan.trampolines:
                place = f"[{trampoline.section}]+{trampoline.value:#x}"
                yield (
                    *("trampoline", name, place if trampoline.defined else "undefined"),
                    *(trampoline.name, f"st_other={trampoline.st_other:#x}"),
                    calls[trampoline.name],
                )
            for site in self.shown.calls(scan.sites):
                yield site_record(name, site)

    def findings(self) -> Iterator[Finding]:
        """The calls that lose r2: refused ones, and those that `rewrite` would change."""
        for name, scan in self.objects:
            for site in self.shown.calls(scan.sites):
                if site.state is Common.REFUSED:
                    yield refusal(name, site)
                elif site.state.changes:
                    message = f"call of {site.trampoline}: r2 is lost if its target has another TOC"
                    yield Finding(
                        *(Level.WARNING, "r2 is not saved", name, site.place, site.line),
                        *(message, "scpatch rewrite", code_place(site, site.file_offset)),
                    )


def _overview(
    objects: Sequence[tuple[str, Scan]], shown: Filter, failed: Sequence[ScpatchError]
) -> Iterator[Block]:
    states = [(name, by_state(shown.calls(scan.sites))) for name, scan in objects]
    called = [(name, numbers) for name, numbers in states if numbers]
    sites = [site for _, scan in objects for site in shown.calls(scan.sites)]
    ending = f": {enumerate_states(by_state(sites))}" if sites else ""
    objects_called = f"{len(called):,} of {count(len(objects), 'object')}"
    text = f"total: {call_sites(len(sites))} in {objects_called}{ending}{unread(failed)}"
    yield Line((Cell(text, style=Style.HEADING),))
    if called:
        yield GAP
        rows = [
            (Cell(name), number(sum(numbers.values())), Cell(enumerate_states(numbers)))
            for name, numbers in called
        ]
        yield Table(rows, indent=0, columns=("file", "call sites", "what they need"))


def _object(name: str, scan: Scan, shown: Filter) -> Iterator[Block]:
    kind = "kernel module" if scan.module else "linked image" if scan.image else "object"
    after = f", strategy {' and '.join(scan.strategies)}" if scan.strategies else ""
    total = f"{count(len(scan.trampolines), 'trampoline')}, {call_sites(len(scan.sites))}"
    yield Line((Cell(name, style=Style.HEADING), Cell(f": {kind}, {total}{after}")))
    if scan.sites:
        yield Paragraph(enumerate_states(by_state(scan.sites)), indent=2)
    sites, trampolines = shown.calls(scan.sites), scan.trampolines
    if shown.active:
        yield note_shown(len(sites), len(scan.sites), "call site")
        called = {site.trampoline for site in sites}
        trampolines = tuple(entry for entry in trampolines if entry.name in called)
    if trampolines:
        calls = scan.calls
        ordered = sorted(trampolines, key=attrgetter("section", "value", "name"))
        yield GAP
        rows = [_trampoline_cells(entry, calls[entry.name]) for entry in ordered]
        yield Table(rows, columns=("trampoline", "where", "calls", "note"))
    if sites:
        yield GAP
        yield from site_table(sites)


def _trampoline_cells(trampoline: Trampoline, calls: int) -> tuple[Cell, ...]:
    notes = ["local symbol"] if trampoline.local else []
    if trampoline.clobbers_r2:
        notes.append("no local entry point (st_other = 1)")
    place = f"section {trampoline.section}+{trampoline.value:#x}"
    return (
        Cell(trampoline.name),
        Cell("", place if trampoline.defined else "undefined"),
        Cell("", count(calls, "call"), right=True),
        Cell("", ", ".join(notes)),
    )


def site_table(sites: Sequence[Site]) -> Iterator[Block]:
    """One row a site; below a refused one, why."""
    lined = any(site.line for site in sites)
    notes = {
        index: [Line((Cell(f"{site.code} {site.detail}"),), indent=11)]
        for index, site in enumerate(sites)
        if site.state is Common.REFUSED
    }
    if sites:
        columns = (*("state", "place", "function", "trampoline"), *(["line"] if lined else []))
        rows = [_cells(site, lined=lined) for site in sites]
        yield Table(rows, notes=notes, columns=columns)


def state_legend(sites: Iterable[Site]) -> Iterator[Block]:
    """What the states of these sites mean."""
    yield from legend({str(state): state.meaning for state in by_state(sites)})


def _cells(site: Site, *, lined: bool) -> tuple[Cell, ...]:
    style = Style.CHANGED if site.state.changes else Style.PLAIN
    if site.state is Common.REFUSED:
        style = Style.REFUSED
    cells = (
        Cell("", str(site.state), style),
        *place_cells(site),
        Cell(site.trampoline),
    )
    path, colon, number = site.line.rpartition(":")
    return (*cells, Cell(path, colon + number)) if lined else cells


def refusal(name: str, site: Site) -> Finding:
    """The finding about a refused site in an object."""
    from scpatch.strategies.diagnostics import hint

    return Finding(
        *(Level.ERROR, site.code, name, site.place, site.line, site.detail),
        *(hint(site.code), code_place(site, site.file_offset)),
    )


def site_record(name: str, site: Site) -> tuple[str, ...]:
    """The place, function, trampoline, state, code, line and detail of a site in an object."""
    return (
        *("site", name, *place_fields(site), site.trampoline, str(site.state)),
        *(site.code, site.line, site.detail),
    )
