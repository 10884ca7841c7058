"""The ways to keep r2 right across a static call, by name.

A strategy is one function from what an object holds to a plan. A new one is a module beside
`callsite` and a line in this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from scpatch.elf.reader import ElfFile
from scpatch.staticcall.model import Plan, Scan
from scpatch.staticcall.strategies import callsite


class Strategy(NamedTuple):
    summary: str
    """One line for the command-line help."""
    text: str
    """What `scpatch explain` prints."""
    plan: Callable[[ElfFile, Scan], Plan]


STRATEGIES: Mapping[str, Strategy] = {
    "callsite": Strategy(callsite.SUMMARY, callsite.TEXT, callsite.plan),
}
