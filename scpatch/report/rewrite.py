"""The report of `rewrite`: what was done, or would be done, to each file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from scpatch import strategies
from scpatch.errors import ScpatchError
from scpatch.report.blocks import (
    GAP,
    Block,
    Cell,
    Finding,
    Line,
    Record,
    Style,
    Table,
    heading,
    note_shown,
    number,
    place_cell,
)
from scpatch.report.filters import EVERYTHING, Filter
from scpatch.report.scan import refusal, site_record, site_table, state_legend
from scpatch.report.words import count, place, summary_line, total_line
from scpatch.rewriter import FilePlan, ObjectPlan
from scpatch.rewriter.counts import Counts, count_by_section, total
from scpatch.sites.actions import Action
from scpatch.strategies.plans import Plan

if TYPE_CHECKING:
    from scpatch.report.diff import DiffReport


class RewriteReport(NamedTuple):
    plans: Sequence[FilePlan]
    written: bool
    """Whether the outputs were written."""
    shown: Filter = EVERYTHING
    brief: bool = False
    """Whether a person gets one line for each file that changes, and the total."""
    differences: DiffReport | None = None
    """What the rewrite changes in the code, if that is asked for."""
    details: bool = False
    """Whether all about each changed file follows those lines."""
    failed: Sequence[ScpatchError] = ()

    @property
    def command(self) -> str:
        return "rewrite"

    def blocks(self) -> Iterator[Block]:
        yield from self._plans()
        if self.differences:
            yield GAP
            yield from self.differences.blocks()

    def _plans(self) -> Iterator[Block]:
        if self.brief:
            total = total_line(self.plans, written=self.written, failed=self.failed)
            yield Line((Cell(total),))
            for plan in self.plans:
                if plan.changed or plan.refused:
                    yield Line((Cell(summary_line(plan, written=self.written)),), indent=2)
            if not self.details:
                return
        for index, plan in enumerate(self.plans):
            if self.brief and not (plan.changed or plan.refused):
                continue
            if index:
                yield GAP
            yield Line((Cell(summary_line(plan, written=self.written)),))
            for entry in plan.objects:
                if entry.plan.sites or entry.plan.trampolines:
                    yield from _object(entry, self.shown, titled=len(plan.objects) > 1)
        objects = (entry for plan in self.plans for entry in plan.objects)
        yield from state_legend(
            site for entry in objects for site in self.shown.calls(entry.plan.sites)
        )

    def records(self) -> Iterator[Record]:
        for name, plan in (
            (entry.name, entry.plan) for file in self.plans for entry in file.objects
        ):
            for site in self.shown.calls(plan.sites):
                yield site_record(name, site)
            for edit in plan.trampolines:
                where = place(edit.section_name, edit.offset)
                yield "trampoline", name, where, edit.name, edit.what
            for stub in plan.stubs:
                where = place(stub.section_name, stub.offset)
                yield "stub", name, where, stub.name, stub.trampoline, stub.sites, len(stub.code)
            for listed in plan.listed:
                yield "listed", name, place(listed.section_name, listed.offset), listed.key
            yield "object", name, plan.strategy, len(plan.changed), plan.code_bytes
        if self.differences:
            yield from self.differences.records()

    def findings(self) -> Iterator[Finding]:
        """The refused calls."""
        for plan in self.plans:
            for entry in plan.objects:
                for site in self.shown.calls(entry.plan.refused):
                    yield refusal(entry.name, site)


def _object(entry: ObjectPlan, shown: Filter, *, titled: bool) -> Iterator[Block]:
    plan = entry.plan
    sites = shown.calls(plan.sites)
    if titled:
        yield GAP
        yield Line((Cell(entry.name, style=Style.HEADING),))
    if shown.active:
        yield note_shown(len(sites), len(plan.sites), "call site")
    tables = (
        [
            (
                Cell("", "trampoline", Style.CHANGED),
                place_cell(edit.section_name, edit.offset),
                Cell(edit.name),
                Cell("", edit.what),
            )
            for edit in plan.trampolines
        ],
        [
            (
                Cell("", stub.kind, Style.NEW),
                place_cell(stub.section_name, stub.offset),
                Cell(stub.name),
                Cell("", count(stub.sites, "call"), right=True),
            )
            for stub in plan.stubs
        ],
        [
            (
                Cell("", "listed", Style.NEW),
                place_cell(listed.section_name, listed.offset),
                Cell(listed.key),
            )
            for listed in plan.listed
        ],
    )
    names = ("what", "place", "name", "note")
    named = (Table(rows, columns=names[: len(rows[0])]) for rows in tables if rows)
    for table in (*site_table(sites), *named):
        yield GAP
        yield table


def stats(plans: Sequence[Plan]) -> Iterator[Block]:
    """The counts as a table, and the share of changed sites that need no stub."""
    sections = count_by_section(plans)
    if not sections:
        yield Line((Cell("no call sites"),))
        return
    whole = total(sections.values())
    states = sorted(whole.states, key=lambda state: state.rank)
    rows = [heading("section", "sites", *map(str, states), "stubs", "thunks", "bytes")]
    rows += [_row(name, counts, states) for name, counts in sections.items()]
    yield Table([*rows, _row("total", whole, states)], indent=0)
    if share := strategies.load(plans[0].strategy).share(plans):
        yield Line((Cell(share),))


def _row(name: str, counts: Counts, states: Sequence[Action]) -> tuple[Cell, ...]:
    numbers = [
        counts.states.total(),
        *(counts.states[state] for state in states),
        *(counts.stubs, counts.thunks, counts.code),
    ]
    return (Cell(name), *map(number, numbers))
