"""The words for numbers and for the states of call sites. Light to import: a build prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from scpatch.sites.model import Site, State

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


def by_state(sites: Iterable[Site]) -> dict[State, int]:
    """The number of sites of each state that occurs, in the order of `State`."""
    numbers = Counter(site.state for site in sites)
    return {state: numbers[state] for state in State if numbers[state]}


def enumerate_states(counts: Mapping[State, int]) -> str:
    """`12 to rewrite, 1 refused`"""
    return ", ".join(f"{number:,} {MEANING[state]}" for state, number in counts.items())


def count(number: int, noun: str) -> str:
    """`1 stub`, `1,204 stubs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def call_sites(number: int) -> str:
    return count(number, "call site")


def place(section_name: str, offset: int) -> str:
    """`.text+0x1a0`"""
    return f"{section_name}+{offset:#x}"


def spot(function: str, offset: int) -> str:
    """`tcp_sendmsg+0x40`; empty if no symbol covers the place."""
    return place(function, offset) if function else ""
