"""What the reports call the states of a call site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from scpatch.report.term import Style, count
from scpatch.sites.model import CHANGED, Site, State

MEANING: Final[Mapping[State, str]] = {
    State.REWRITE: "to rewrite",
    State.SAVED: "to restore only (r2 is saved already)",
    State.THUNK: "to get a thunk",
    State.PACA: "to reload r2 from the PACA",
    State.TRAMPOLINE: "kept right by the trampoline",
    State.DONE: "done already",
    State.LINKER: "left to the linker",
    State.LOADER: "left to the module loader",
    State.NOTOC: "not in need of r2",
    State.REFUSED: "refused",
}


def style(state: State) -> Style:
    if state is State.REFUSED:
        return Style.REFUSED
    return Style.CHANGED if state in CHANGED else Style.PLAIN


def by_state(sites: Iterable[Site]) -> dict[State, int]:
    """How many sites there are of each state that occurs, in the order of `State`."""
    found = Counter(site.state for site in sites)
    return {state: found[state] for state in State if found[state]}


def enumerate_states(counts: Mapping[State, int]) -> str:
    """`12 to rewrite, 1 refused`"""
    return ", ".join(f"{number:,} {MEANING[state]}" for state, number in counts.items())


def sites(number: int) -> str:
    return count(number, "call site")
