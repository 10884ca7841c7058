"""The words for numbers and for the states of call sites. Light to import: a build prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from scpatch.sites.actions import Action
from scpatch.sites.model import Site


def by_state(sites: Iterable[Site]) -> dict[Action, int]:
    """The number of sites of each state that occurs, in the order of reports."""
    numbers = Counter(site.state for site in sites)
    return {state: numbers[state] for state in sorted(numbers, key=lambda state: state.rank)}


def enumerate_states(counts: Mapping[Action, int]) -> str:
    """`12 to rewrite, 1 refused`"""
    return ", ".join(f"{number:,} {state.words}" for state, number in counts.items())


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
