"""`rewrite --stats`: counts by section and by state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scpatch import strategies
from scpatch.report.blocks import Block, Cell, Line, Row, Table, heading, number
from scpatch.rewriter.counts import Counts, count_by_section, total
from scpatch.sites.actions import Action
from scpatch.strategies.plans import Plan


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


def _row(name: str, counts: Counts, states: Sequence[Action]) -> Row:
    numbers = [
        counts.states.total(),
        *(counts.states[state] for state in states),
        *(counts.stubs, counts.thunks, counts.code),
    ]
    return (Cell(name), *map(number, numbers))
