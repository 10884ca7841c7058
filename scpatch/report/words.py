"""The words for numbers and for the states of call sites. Light to import: a build prints them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

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


_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with control characters, and bytes that are not UTF-8, written as `\\xNN`."""
    return text if text.isprintable() else _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape has carried along
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
