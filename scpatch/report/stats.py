"""`rewrite --stats`: counts by section and by state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scpatch.report.columns import Cell, lay_out
from scpatch.report.term import Screen, Style, clean
from scpatch.sites.model import THUNK_PREFIX, Plan, State


@dataclass(slots=True)
class Counts:
    """What was found in, and added to, all sections of one name."""

    states: Counter[State] = field(default_factory=Counter)
    stubs: int = 0
    thunks: int = 0
    code: int = 0
    """Bytes of code added."""

    def add(self, other: Counts) -> None:
        self.states += other.states
        self.stubs += other.stubs
        self.thunks += other.thunks
        self.code += other.code


def by_section(plans: Iterable[Plan]) -> dict[str, Counts]:
    """Section name -> counts, in the order in which the sections come."""
    found: dict[str, Counts] = {}
    for plan in plans:
        names = {site.section: site.section_name for site in plan.sites}
        for site in plan.sites:
            found.setdefault(site.section_name, Counts()).states[site.state] += 1
        for stub in plan.stubs:
            thunk = stub.name.startswith(THUNK_PREFIX)
            found[stub.section_name].thunks += thunk
            found[stub.section_name].stubs += not thunk
        for section in {stub.section for stub in plan.stubs}:
            found[names[section]].code += len(plan.edits.sections[section].tail)
    return found


def stats_table(plans: Sequence[Plan], where: Screen) -> Iterator[str]:
    """The counts as a table, and the share of changed sites that need no stub."""
    sections = by_section(plans)
    if not sections:
        yield "no call sites"
        return
    total = Counts()
    for counts in sections.values():
        total.add(counts)
    states = [state for state in State if total.states[state]]
    titles = ["section", "sites", *map(str, states), "stubs", "thunks", "bytes"]
    rows = [tuple(Cell("", title, Style.HEADING, right=i > 0) for i, title in enumerate(titles))]
    for name, counts in [*sections.items(), ("total", total)]:
        rows.append(_row(clean(name), counts, states))
    yield from lay_out(rows, where)
    changed = sum(total.states[s] for s in (State.REWRITE, State.SAVED, State.THUNK))
    if changed:
        saved = total.states[State.SAVED]
        hoisted = sum(bool(site.saves) for plan in plans for site in plan.sites)
        share = f"without a stub: {saved:,} of {changed:,} changed sites ({saved / changed:.1%})"
        yield share + (f", {hoisted:,} of them saved in nops" if hoisted else "")


def _row(name: str, counts: Counts, states: Sequence[State]) -> tuple[Cell, ...]:
    numbers = [
        counts.states.total(),
        *(counts.states[state] for state in states),
        counts.stubs,
        counts.thunks,
        counts.code,
    ]
    return (Cell(name), *(Cell("", f"{number:,}", right=True) for number in numbers))
