"""`rewrite --stats`: counts by section and by state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scpatch.report.blocks import Block, Cell, Line, Row, Table, heading, number
from scpatch.rewriter.counts import Counts, count_by_section, total
from scpatch.sites.model import Plan, State


def stats(plans: Iterable[Plan]) -> Iterator[Block]:
    """The counts as a table, and the share of changed sites that need no stub."""
    sections = count_by_section(plans)
    if not sections:
        yield Line((Cell("no call sites"),))
        return
    whole = total(sections.values())
    states = [state for state in State if whole.states[state]]
    rows = [heading("section", "sites", *map(str, states), "stubs", "thunks", "bytes")]
    rows += [_row(name, counts, states) for name, counts in sections.items()]
    yield Table([*rows, _row("total", whole, states)], indent=0)
    changed = sum(whole.states[s] for s in (State.REWRITE, State.SAVED, State.THUNK))
    if changed:
        saved = whole.states[State.SAVED]
        share = f"without a stub: {saved:,} of {changed:,} changed sites ({saved / changed:.1%})"
        hoisted = f", {whole.hoisted:,} of them saved in nops" if whole.hoisted else ""
        yield Line((Cell(share + hoisted),))


def _row(name: str, counts: Counts, states: Sequence[State]) -> Row:
    numbers = [
        counts.states.total(),
        *(counts.states[state] for state in states),
        *(counts.stubs, counts.thunks, counts.code),
    ]
    return (Cell(name), *map(number, numbers))
